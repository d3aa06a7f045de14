"""Northgate's letter: the surgeon writes to the radiation oncologist in full sentences."""

from __future__ import annotations

from rollama.cohort.notes import Slot, Style, always, trap

LETTER = Style(
    name="letter",
    shuffle=(3, 4, 5),
    blocks=(
        (
            always(
                "Dear colleague, thank you for seeing this {age}-year-old woman with carcinoma of the {side} breast.",
                "Please see this {age}-year-old patient, who was treated for cancer of the {side} breast.",
                "Thank you for asking us to see this lady, aged {age}, with a recent {side} breast cancer.",
                facts=("age", "side"),
            ),
            always(
                "The lesion was found on routine screening.",
                "She noticed a lump while showering.",
                "She was called back after a screening mammogram.",
                chance=0.5,
            ),
            always(
                "The tumour was located in the {site}.",
                "Imaging placed the lesion in the {site}.",
                "On examination the mass lay in the {site}.",
                facts=("site",),
            ),
            trap(
                "carried over",
                {
                    "always": (
                        "A line pasted from the screening letter reads: cancer of the {other} breast.",
                        "A line pasted from her first visit reads: core biopsy grade {core_grade}, surgery pending.",
                    )
                },
                0.2,
            ),
            trap(
                "imaging",
                {
                    "imaging missed": (
                        "Ultrasound had described the axilla as unsuspicious.",
                        "Imaging had shown no suspicious nodes.",
                    ),
                    "imaging overcalled": ("Ultrasound had measured {imaging_size} mm and suspected involved nodes.",),
                    "imaging size": ("Preoperative ultrasound had measured the lesion at {imaging_size} mm.",),
                },
                0.55,
            ),
        ),
        (
            Slot(
                ("chemo",),
                {
                    "chemo neoadjuvant": (
                        "She was staged {ct} and first received chemotherapy over {weeks} months.",
                        "As the tumour was {ct} at diagnosis, chemotherapy came before the operation.",
                    ),
                },
            ),
            Slot(
                ("surgery",),
                {
                    "mastectomy changed": (
                        "A lumpectomy had been planned, but after MRI she chose to have a mastectomy.",
                        "Although breast conservation was discussed at first, a mastectomy was carried out.",
                    ),
                    "conserving changed": (
                        "A mastectomy had been booked, but in the end a wide local excision was performed.",
                        "Although she first asked for a mastectomy, she went on to have a lumpectomy.",
                    ),
                    "mastectomy": ("She underwent mastectomy.", "The breast was removed by simple mastectomy."),
                    "conserving": ("She underwent wide local excision.", "A lumpectomy was carried out."),
                },
            ),
            Slot(
                ("reconstruction",),
                {
                    "recon implant": (
                        "The breast was rebuilt with a silicone implant in the same session.",
                        "Immediate implant reconstruction was carried out.",
                    ),
                    "recon expander": (
                        "A tissue expander was placed in the same session.",
                        "Immediate reconstruction was begun with a tissue expander.",
                    ),
                    "recon flap": (
                        "The breast was rebuilt with an abdominal flap in the same session.",
                        "Immediate reconstruction with a latissimus dorsi flap was carried out.",
                    ),
                    "flat": ("She did not wish to have a reconstruction.", "No reconstruction was done."),
                },
            ),
            Slot(
                ("clips",),
                {"clips": ("The surgeon left clips in the cavity.", "The cavity was marked with titanium clips.")},
                0.7,
            ),
            Slot(
                ("axilla", "nodes"),
                {
                    "axilla slnb": (
                        "Sentinel node biopsy removed {exam_word} nodes, of which {pos_word} contained tumour.",
                        "At sentinel lymph node biopsy {pos_word} of {exam_word} nodes showed metastasis.",
                    ),
                    "axilla alnd": (
                        "Axillary dissection yielded {exam_word} nodes, of which {pos_word} contained tumour.",
                        "The axilla was cleared and {pos_word} of {exam_word} nodes showed metastasis.",
                    ),
                },
            ),
        ),
        (
            always(
                "Histology showed a {histology} of grade {grade}, {size} mm in size ({t}).",
                "The pathologist describes a grade {grade} {histology} measuring {size} mm, {t}.",
                "Final pathology: {histology}, {t}, {size} mm, grade {grade}.",
                facts=("histology", "grade", "t_stage"),
            ),
            always(
                "The closest margin was {margin} mm.",
                "Tumour came within {margin} mm of the nearest resection edge.",
                facts=("margin",),
            ),
            always(
                "Oestrogen receptor was {er} and HER2 was {her2}.",
                "The tumour was ER {er} and HER2 {her2}.",
                facts=("receptors",),
            ),
            Slot(
                ("chemo",),
                {
                    "chemo adjuvant": (
                        "After the operation she completed chemotherapy.",
                        "Postoperative chemotherapy finished {weeks} weeks ago.",
                    ),
                    "chemo none": ("Chemotherapy was not given.", "She had no chemotherapy."),
                },
            ),
        ),
        (
            Slot(
                ("contralateral",),
                {
                    "contralateral implant": (
                        "{years} years ago she had a mastectomy and an implant on the {other} for an earlier cancer.",
                    ),
                    "contralateral mastectomy": (
                        "{years} years ago she lost the {other} breast to an earlier cancer.",
                        "Her {other} breast had been removed {years} years ago.",
                    ),
                    "contralateral lumpectomy": (
                        "In {year} she had a lumpectomy for a small cancer on the {other} side.",
                    ),
                    "contralateral benign biopsy": ("A biopsy of the {other} breast {years} years ago was benign.",),
                    "always": ("The {other} breast is unremarkable.",),
                },
            ),
        ),
        (
            always(
                "There is no evidence of distant disease.",
                "Staging CT showed no metastases in liver or lung.",
                "Bone scan was negative, and there is no lymphoedema of the arm.",
                chance=0.6,
            ),
        ),
        (
            always(
                "She takes ramipril for hypertension and has {children} children.",
                "She has mild asthma, uses a salbutamol inhaler and does not smoke.",
                "Her mother had ovarian cancer at an advanced age; genetic testing found no mutation.",
                "She has type 2 diabetes, treated with metformin.",
                chance=0.6,
            ),
        ),
        (
            trap(
                "carried over",
                {
                    "always": (
                        "The side in the pasted line is wrong; it is the {side} breast.",
                        "The pasted line is outdated; the grade given by the final pathology holds.",
                    )
                },
                0.2,
            ),
            Slot(
                ("seroma",),
                {
                    "seroma": ("A seroma remains under the scar.",),
                    "always": ("Wounds have healed well.", "She has recovered well and moves her arm freely."),
                },
            ),
            always(
                "We understand that your department contours by {protocol}.",
                "The contouring protocol of your department is {protocol}.",
                facts=("protocol",),
            ),
            always("With kind regards.", chance=0.3),
        ),
    ),
)
