"""Lakeside, never seen in training: a referral form, in fields of its own."""

from __future__ import annotations

from rollama.cohort.notes import Slot, Style, always, trap

FORM = Style(
    name="form",
    separator="\n",
    words={
        "side": {"left": "LEFT", "right": "RIGHT"},
        "other": {"left": "LEFT", "right": "RIGHT"},
        "site": {
            "upper outer quadrant": "outer upper",
            "lower outer quadrant": "outer lower",
            "upper inner quadrant": "inner upper",
            "lower inner quadrant": "inner lower",
            "central area": "centre",
        },
        "histology": {
            "ductal carcinoma": "invasive ductal",
            "lobular carcinoma": "invasive lobular",
            "mucinous carcinoma": "mucinous",
            "mixed ductal and lobular carcinoma": "mixed ductal/lobular",
        },
        "axilla": {"sentinel node biopsy": "sentinel biopsy", "axillary dissection": "dissection"},
    },
    shuffle=(1, 2, 3),
    blocks=(
        (
            always("Referral form, age: {age}", "Referral - years of age: {age}", facts=("age",)),
            trap(
                "carried over",
                {
                    "always": (
                        "Entry of form 1 (kept): {other} breast, operation outstanding",
                        "Entry of form 1 (kept): grading of needle sample {core_grade}, operation outstanding",
                    )
                },
                0.22,
            ),
            always(
                "Laterality: {side}; quadrant: {site}",
                "Affected: {side} breast; quadrant: {site}",
                facts=("side", "site"),
            ),
        ),
        (
            Slot(
                ("surgery",),
                {
                    "mastectomy changed": ("Procedure: mastectomy (form 1 said lumpectomy)",),
                    "conserving changed": ("Procedure: lumpectomy (form 1 said mastectomy)",),
                    "mastectomy": ("Procedure: mastectomy", "Type of procedure: removal of breast (mastectomy)"),
                    "conserving": ("Procedure: lumpectomy", "Type of procedure: breast-conserving"),
                },
            ),
            Slot(
                ("reconstruction",),
                {
                    "recon implant": ("Breast rebuilt: yes, by implant",),
                    "recon expander": ("Breast rebuilt: in progress, expander inserted",),
                    "recon flap": ("Breast rebuilt: yes, by flap",),
                    "flat": ("Breast rebuilt: no reconstruction",),
                },
            ),
            always(
                "Axillary procedure: {axilla}; nodes retrieved {exam}, nodes affected {pos}",
                "Axillary procedure: {axilla}; affected {pos}, retrieved {exam}",
                facts=("axilla", "nodes"),
            ),
        ),
        (
            always(
                "Tumour type: {histology}; grading: {grade}; category: {t}; diameter: {size} mm",
                "Tumour type: {histology}; diameter: {size} mm; category: {t}; grading: {grade}",
                facts=("histology", "grade", "t_stage"),
            ),
            always("Smallest clearance: {margin} mm", "Clearance, smallest value: {margin} mm", facts=("margin",)),
            always("Hormone receptor: {er}; HER2 status: {her2}", facts=("receptors",)),
        ),
        (
            Slot(
                ("chemo",),
                {
                    "chemo neoadjuvant": ("Cytostatics: given preoperatively, {ct} at that time",),
                    "chemo adjuvant": ("Cytostatics: given postoperatively",),
                    "chemo none": ("Cytostatics: never given",),
                },
            ),
        ),
        (
            Slot(
                ("contralateral",),
                {
                    "contralateral implant": ("Earlier operations: mastectomy {other}, {year}, with implant",),
                    "contralateral mastectomy": ("Earlier operations: mastectomy {other}, {year}",),
                    "contralateral lumpectomy": ("Earlier operations: lumpectomy {other}, {year}",),
                    "contralateral benign biopsy": ("Earlier operations: nodule {other}, harmless, {year}",),
                    "always": ("Earlier operations: tonsils", "Earlier operations: none given"),
                },
            ),
            always(
                "Illnesses: asthma; drugs: inhaled steroid; smoker: never",
                "Illnesses: psoriasis; drugs: none; smoker: stopped {year}",
                "Illnesses: high blood pressure; drugs: valsartan; smoker: never",
            ),
            Slot(("clips",), {"clips": ("Marking: clips left by surgeon",)}, 0.7),
            Slot(("seroma",), {"seroma": ("Fluid collection: seroma present",)}, 0.7),
            trap(
                "imaging",
                {
                    "imaging missed": ("Sonography on file: {imaging_size} mm, nodes normal",),
                    "imaging overcalled": ("Sonography on file: {imaging_size} mm, nodes abnormal",),
                    "imaging size": ("Sonography on file: {imaging_size} mm",),
                },
                0.5,
            ),
            Slot(
                (),
                {
                    "t4": ("Spread: not found on imaging of thorax, abdomen, skeleton",),
                    "always": (
                        "Spread: not found on imaging of thorax, abdomen, skeleton",
                        "Spread: excluded; skin: not infiltrated",
                    ),
                },
            ),
            always(
                "Mobility: walks unaided; interpreter: not required; transport: own car",
                "Mobility: walks unaided; interpreter: required; transport: taxi",
            ),
            Slot(
                (),
                {
                    "older": ("Pacemaker: absent; joint replacement: hip; relatives with tumours: mother (colon)",),
                    "always": (
                        "Pacemaker: absent; relatives with tumours: mother (colon)",
                        "Pacemaker: absent; relatives with tumours: none",
                    ),
                },
            ),
            trap(
                "carried over",
                {
                    "always": (
                        "Remark: laterality on form 1 mistaken, {side} applies; operation has taken place",
                        "Remark: form 1 out of date, grading of the operation specimen applies",
                    )
                },
                0.22,
            ),
            always(
                "Delineation standard of this clinic: {protocol}",
                "Clinic delineates according to: {protocol}",
                facts=("protocol",),
            ),
        ),
    ),
)
