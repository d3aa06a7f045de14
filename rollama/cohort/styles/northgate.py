"""Northgate: a letter in full sentences, and a short outpatient note."""

from __future__ import annotations

from rollama.cohort.notes import Slot, Style, always

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
                    "reconstruction": (
                        "The breast was rebuilt in the same session.",
                        "Immediate reconstruction was carried out.",
                    ),
                    "flat": ("She did not wish to have a reconstruction.", "No reconstruction was done."),
                },
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
                "There is no evidence of distant disease, and no skin involvement was seen.",
                "Staging CT showed no metastases in liver or lung.",
                "Bone scan was negative, and there is no lymphoedema of the arm.",
                chance=0.8,
            ),
        ),
        (
            always(
                "She takes ramipril for hypertension and has {children} grown-up children.",
                "She has mild asthma, uses a salbutamol inhaler and does not smoke.",
                "Her mother had ovarian cancer at an advanced age; genetic testing found no mutation.",
                "She has type 2 diabetes, treated with metformin.",
                chance=0.8,
            ),
        ),
        (always("Wounds have healed well.", "She has recovered well and moves her arm freely.", "With kind regards."),),
    ),
)

CLINIC = Style(
    name="clinic",
    words={
        "side": {"left": "left-sided", "right": "right-sided"},
        "er": {"positive": "+", "negative": "-"},
        "her2": {"positive": "+", "negative": "-"},
        "histology": {
            "ductal carcinoma": "invasive ductal carcinoma",
            "lobular carcinoma": "invasive lobular carcinoma",
            "mucinous carcinoma": "mucinous carcinoma",
            "mixed ductal and lobular carcinoma": "carcinoma of mixed ductal and lobular type",
        },
    },
    shuffle=(2, 3),
    blocks=(
        (
            always(
                "New patient visit: {age} y/o woman, {side} breast carcinoma, {site}.",
                "Consultation today. {age} y/o female with {side} breast cancer in the {site}.",
                facts=("age", "side", "site"),
            ),
            Slot(
                ("contralateral",),
                {
                    "contralateral mastectomy": ("PMH: ablation of the other breast {years} yrs ago, appendectomy.",),
                    "contralateral lumpectomy": ("PMH: {other} breast cancer {year}, excised; cholecystectomy.",),
                    "contralateral benign biopsy": ("PMH: fibroadenoma removed on the other side {year}.",),
                    "always": ("PMH: migraine, knee arthroscopy.", "PMH: hypothyroidism, on levothyroxine."),
                },
            ),
        ),
        (
            Slot(
                ("chemo",),
                {
                    "chemo neoadjuvant": (
                        "Neoadjuvant chemo for {ct}, tolerated well.",
                        "Clinically {ct}, hence chemo up front.",
                    ),
                    "chemo adjuvant": ("Adjuvant chemo completed.", "Chemo was given post-op."),
                    "chemo none": ("No chemo indicated.", "Chemo: not given."),
                },
            ),
        ),
        (
            Slot(
                ("surgery", "axilla"),
                {
                    "mastectomy": (
                        "Op: mastectomy with {axilla}.",
                        "Operation: ablatio mammae and {axilla}.",
                    ),
                    "conserving": (
                        "Op: segmental resection with {axilla}.",
                        "Operation: breast conserving resection and {axilla}.",
                    ),
                },
            ),
            Slot(
                (),
                {
                    "mastectomy changed": ("Original plan of breast conservation was dropped.",),
                    "conserving changed": ("Mastectomy, as first planned, was not needed.",),
                },
            ),
            Slot(
                ("reconstruction",),
                {
                    "reconstruction": ("Implant reconstruction in place.", "Flap reconstruction done."),
                    "flat": ("No reconstruction so far.", "Not reconstructed."),
                },
            ),
        ),
        (
            always(
                "Path: {histology}, G{grade}, {size} mm, {t}.",
                "Pathology report: {t} ({size} mm) {histology} G{grade}.",
                facts=("histology", "grade", "t_stage"),
            ),
            always("LN {pos}/{exam} involved.", "Lymph nodes: {pos}/{exam} with tumour.", facts=("nodes",)),
            always("Margin {margin} mm.", "Nearest margin {margin} mm.", facts=("margin",)),
            always("ER{er}, HER2{her2}.", "Receptors: ER{er} HER2{her2}.", facts=("receptors",)),
        ),
        (
            always(
                "No fever, no seroma, no palpable nodes, no bone pain.",
                "Exam: scar dry, no mass palpable, no arm swelling.",
                "Denies weight loss, dyspnoea or back pain.",
            ),
            always(
                "Non-smoker, works as a teacher, lives with her husband.",
                "Ex-smoker, retired, walks her dog every day.",
                "Sister had thyroid cancer; no other family history.",
                "Drugs: amlodipine, vitamin D.",
                chance=0.8,
            ),
            always(
                "CT chest and abdomen without metastases.",
                "Echo normal, liver ultrasound without lesions.",
                "Blood count and creatinine are normal.",
                chance=0.7,
            ),
        ),
        (
            always(
                "Planning scan has been booked; questions were answered.",
                "She wants to think about it and will call back.",
                "Case to be discussed with the team next week.",
            ),
        ),
    ),
)

STYLES = (LETTER, CLINIC)
