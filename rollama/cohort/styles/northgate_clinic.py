"""Northgate's short outpatient note, typed between two patients."""

from __future__ import annotations

from rollama.cohort.notes import Slot, Style, always, trap

CLINIC = Style(
    name="clinic",
    typos=0.02,
    words={
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
                "New patient visit: {age} y/o woman, {side}-sided breast carcinoma, {site}.",
                "Consultation today. {age} y/o female with {side} breast cancer in the {site}.",
                facts=("age", "side", "site"),
            ),
            Slot(
                ("contralateral",),
                {
                    "contralateral mastectomy": ("PMH: ablation of the {other} breast {years} yrs ago, appendectomy.",),
                    "contralateral lumpectomy": ("PMH: {other} breast cancer {year}, excised; cholecystectomy.",),
                    "contralateral benign biopsy": ("PMH: fibroadenoma removed on the {other} {year}.",),
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
                    "recon implant": ("Implant reconstruction in place.", "Reconstructed with an implant."),
                    "recon expander": ("Tissue expander in place.", "Reconstruction started, expander in situ."),
                    "recon flap": ("Flap reconstruction done.", "Reconstructed with a DIEP flap."),
                    "flat": ("No reconstruction so far.", "Not reconstructed."),
                },
            ),
            Slot(("clips",), {"clips": ("Clips placed in the cavity.", "Cavity clipped.")}, 0.7),
        ),
        (
            trap(
                "imaging",
                {
                    "imaging missed": ("US before surgery: {imaging_size} mm, axilla unsuspicious.",),
                    "imaging overcalled": ("US before surgery: {imaging_size} mm, nodes suspected.",),
                    "imaging size": ("MRI before surgery: {imaging_size} mm.",),
                },
                0.5,
            ),
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
            Slot(
                ("seroma",),
                {
                    "seroma": ("Exam: fluctuant seroma at the scar, no fever.", "Exam: seroma palpable, not tender."),
                    "always": (
                        "No fever, no seroma, no palpable nodes, no bone pain.",
                        "Exam: scar dry, no mass palpable, no arm swelling.",
                        "Denies weight loss, dyspnoea or back pain.",
                    ),
                },
            ),
            always(
                "Non-smoker, lives with her husband.",
                "Ex-smoker, walks her dog every day.",
                "FH: mother breast cancer at 60, bilateral.",
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
            always(
                "Department protocol: {protocol}.",
                "We contour by {protocol}.",
                facts=("protocol",),
            ),
        ),
    ),
)
