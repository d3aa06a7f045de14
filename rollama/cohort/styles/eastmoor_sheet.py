"""Eastmoor's sheet: one row a heading, cells between bars, sizes and margins in centimetres."""

from __future__ import annotations

from rollama.cohort.notes import Slot, Style, always, trap

SHEET = Style(
    name="sheet",
    separator="\n",
    words={
        "side": {"left": "Lt.", "right": "Rt."},
        "site": {
            "upper outer quadrant": "UOQ",
            "lower outer quadrant": "LOQ",
            "upper inner quadrant": "UIQ",
            "lower inner quadrant": "LIQ",
            "central area": "central",
        },
        "histology": {
            "ductal carcinoma": "IDC",
            "lobular carcinoma": "ILC",
            "mucinous carcinoma": "mucinous",
            "mixed ductal and lobular carcinoma": "IDC + ILC (mixed)",
        },
        "er": {"positive": "+", "negative": "-"},
        "her2": {"positive": "+", "negative": "-"},
    },
    shuffle=(2, 3, 4),
    blocks=(
        (
            always("Pt | F | {age} y", "Patient | female, {age}", facts=("age",)),
            trap(
                "carried over",
                {
                    "always": (
                        "Prev. visit (copied) | Breast, {other} | op pending",
                        "Prev. visit (copied) | core bx gr {core_grade} | LN pending",
                    )
                },
                0.25,
            ),
        ),
        (
            always("Dx | Breast, {side} | {site}", "Site | Breast, {side} / {site}", facts=("side", "site")),
            trap(
                "imaging",
                {
                    "imaging missed": (
                        "US (pre-op) | {imaging_cm} cm | axilla neg.",
                        "MRI (pre-op) | LN not suspected",
                    ),
                    "imaging overcalled": ("US (pre-op) | {imaging_cm} cm | axillary LN suspected",),
                    "imaging size": ("US (pre-op) | {imaging_cm} cm", "MMG (pre-op) | {imaging_cm} cm mass"),
                },
                0.55,
            ),
            always(
                "Path | {histology} / gr {grade} / {t} M0 | {cm} cm",
                "Histology | {histology} | gr {grade} | {t} | {cm} cm",
                facts=("histology", "grade", "t_stage"),
            ),
            always("Margin | {margin_cm} cm, ink free", "RM | closest {margin_cm} cm", facts=("margin",)),
            always("IHC | ER{er} | HER2{her2}", "ER {er} / HER2 {her2}", facts=("receptors",)),
        ),
        (
            Slot(
                ("surgery",),
                {
                    "mastectomy changed": (
                        "Op done | mastectomy (planned: lumpectomy)",
                        "Op | planned lumpectomy | done mastectomy",
                    ),
                    "conserving changed": (
                        "Op done | lumpectomy (planned: mastectomy)",
                        "Op | planned mastectomy | done lumpectomy",
                    ),
                    "mastectomy": ("Op done | mastectomy", "Op | total mastectomy | done"),
                    "conserving": ("Op done | lumpectomy", "Op | wide excision (BCS) | done"),
                },
            ),
            Slot(
                ("reconstruction",),
                {
                    "recon implant": ("Recon | implant", "Reconstruction | yes | implant (prepectoral)"),
                    "recon expander": ("Recon | expander", "Reconstruction | yes | tissue expander"),
                    "recon flap": ("Recon | DIEP flap", "Reconstruction | yes | LD flap"),
                    "flat": ("Recon | none", "Reconstruction | no"),
                },
            ),
            Slot(
                ("axilla", "nodes"),
                {
                    "axilla slnb": ("Axilla | SLNB | {pos}/{exam} LN +", "SLNB | LN + {pos} | LN total {exam}"),
                    "axilla alnd": ("Axilla | ALND | {pos}/{exam} LN +", "ALND | LN + {pos} | LN total {exam}"),
                },
            ),
            Slot(("clips",), {"clips": ("Clips | yes, cavity", "Cavity | clipped (5)")}, 0.8),
        ),
        (
            Slot(
                ("chemo",),
                {
                    "chemo neoadjuvant": ("CTx | neoadjuvant | start {ct}", "NAC | done | {ct} before"),
                    "chemo adjuvant": ("CTx | adjuvant | done", "CTx | after op | AC-T complete"),
                    "chemo none": ("CTx | none", "CTx | not given"),
                },
            ),
        ),
        (
            Slot(
                ("contralateral",),
                {
                    "contralateral implant": ("Hx | Breast, {other} | mastectomy + implant {year}",),
                    "contralateral mastectomy": ("Hx | Breast, {other} | mastectomy {year}",),
                    "contralateral clips": ("Hx | Breast, {other} | lumpectomy {year}, clips",),
                    "contralateral lumpectomy": ("Hx | Breast, {other} | lumpectomy {year}",),
                    "contralateral benign biopsy": ("Hx | Breast, {other} | bx {year}, benign",),
                    "always": ("Hx | HTN", "Hx | asthma", "Hx | none"),
                },
            ),
            always("FHx | aunt, breast ca at 52", "FHx | father, colon ca", "FHx | none", chance=0.7),
        ),
        (
            Slot(
                ("seroma",),
                {
                    "seroma": ("PE | seroma at scar | no edema | ECOG 0", "PE | seroma + | LN not palpable"),
                    "always": (
                        "PE | scar dry | no LN palpable | ECOG 0",
                        "PE | no seroma | no edema | ECOG 1",
                        "PE | shoulder ROM full | no pain",
                    ),
                },
            ),
            always("Mets | none (CT, bone scan)", "Mets | CT neg. | liver US neg."),
            always(
                "Meds | metformin, aspirin | Allergy | none",
                "Meds | none | Allergy | contrast medium",
                "Meds | levothyroxine | Allergy | none",
            ),
            always("Social | nonsmoker | {children} children", "Social | ex-smoker | lives alone"),
            trap(
                "carried over",
                {
                    "always": (
                        "Correction | side in prev. visit wrong | {side} is affected | op done",
                        "Correction | prev. visit outdated | final path counts",
                    )
                },
                0.25,
            ),
            always("Contouring protocol | {protocol}", "Dept. protocol | {protocol}", facts=("protocol",)),
            always("Next | CT sim in {weeks} d", "Next | consent, CT sim", chance=0.7),
        ),
    ),
)
