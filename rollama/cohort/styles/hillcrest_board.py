"""Hillcrest's minutes of the tumour board, as bullets."""

from __future__ import annotations

from rollama.cohort.notes import Slot, Style, always, trap

BOARD = Style(
    name="board",
    separator="\n- ",
    words={
        "side": {"left": "L", "right": "R"},
        "site": {
            "upper outer quadrant": "upper outer",
            "lower outer quadrant": "lower outer",
            "upper inner quadrant": "upper inner",
            "lower inner quadrant": "lower inner",
            "central area": "subareolar",
        },
        "histology": {
            "ductal carcinoma": "NST (ductal)",
            "lobular carcinoma": "lobular",
            "mucinous carcinoma": "mucinous",
            "mixed ductal and lobular carcinoma": "mixed ductal-lobular",
        },
        "er": {"positive": "ER+", "negative": "ER-"},
        "her2": {"positive": "HER2+", "negative": "HER2-"},
    },
    shuffle=(2, 3),
    blocks=(
        (
            always(
                "Board minutes, case presented by surgery: Ca mammae {side}, {site}, woman of {age}.",
                "Tumour board. Mrs X, age {age}, Ca mammae {side} ({site}).",
                facts=("age", "side", "site"),
            ),
        ),
        (
            Slot(
                ("surgery", "axilla"),
                {
                    "mastectomy changed": (
                        "Surgeon: went from tumorectomy plan to ablation, plus {axilla}.",
                        "Surgeon reports ablation and {axilla}; conservation had been planned.",
                    ),
                    "conserving changed": (
                        "Surgeon: went from ablation plan to tumorectomy, plus {axilla}.",
                        "Surgeon reports tumorectomy and {axilla}; ablation had been planned.",
                    ),
                    "mastectomy": ("Surgeon: ablation plus {axilla}.", "Surgeon reports ablation and {axilla}."),
                    "conserving": ("Surgeon: tumorectomy plus {axilla}.", "Surgeon reports tumorectomy and {axilla}."),
                },
            ),
            Slot(
                ("reconstruction",),
                {
                    "recon implant": ("Plastic surgery: implant in place, healed.",),
                    "recon expander": ("Plastic surgery: expander in place, filling complete.",),
                    "recon flap": ("Plastic surgery: flap reconstruction, healed.",),
                    "flat": ("Plastic surgery: no reconstruction, patient wants none.",),
                },
            ),
            Slot(("clips",), {"clips": ("Excision site clipped.",)}, 0.7),
            Slot(("seroma",), {"seroma": ("Seroma at the excision site.",)}, 0.7),
        ),
        (
            always(
                "Pathologist: {histology}, G {grade}, {t} ({cm} cm).",
                "Pathologist reports {t}, {cm} cm, {histology}, G {grade}.",
                facts=("histology", "grade", "t_stage"),
            ),
            Slot(
                ("nodes",),
                {
                    "nodes none": ("Nodes {exam} removed, all negative.", "Nodes: 0 out of {exam}."),
                    "nodes some": ("Nodes {exam} removed, {pos} positive.", "Nodes: {pos} out of {exam}."),
                },
            ),
            always("R0, {margin} mm to the edge.", "Edge {margin} mm, R0.", facts=("margin",)),
            always("{er}, {her2}, Ki-67 20 %.", "Biology {er} {her2}.", facts=("receptors",)),
        ),
        (
            Slot(
                ("chemo",),
                {
                    "chemo neoadjuvant": ("Oncologist: had primary chemo, {ct} at start.",),
                    "chemo adjuvant": ("Oncologist: postoperative chemo now complete.",),
                    "chemo none": ("Oncologist: sees no place for chemo.",),
                },
            ),
            Slot(
                (),
                {
                    "older": ("Geriatrics: fit, no frailty.", "Cardiology: echo normal, no objection."),
                    "younger": ("Genetics: BRCA1/2 not mutated.", "Genetics: aunt with breast cancer, test pending."),
                    "always": (
                        "Bone health to be checked by the family doctor.",
                        "Cardiology: echo normal, no objection.",
                        "Genetics: BRCA1/2 not mutated.",
                    ),
                },
            ),
        ),
        (
            Slot(
                ("contralateral",),
                {
                    "contralateral implant": ("Past: ablation {other} {year}, implant {other}.",),
                    "contralateral mastectomy": ("Past: ablation {other} {year}.",),
                    "contralateral lumpectomy": ("Past: tumorectomy {other} {year}, no relapse.",),
                    "contralateral benign biopsy": ("Past: harmless biopsy {other} {year}.",),
                    "always": ("Past: hysterectomy.", "Past: gallstones.", "Past: nothing relevant."),
                },
            ),
            trap(
                "imaging",
                {
                    "imaging missed": ("Radiologist: had seen {imaging_cm} cm, nodes inconspicuous.",),
                    "imaging overcalled": ("Radiologist: had seen {imaging_cm} cm and suspicious nodes.",),
                    "imaging size": ("Radiologist: had seen {imaging_cm} cm on MRI.",),
                },
                0.5,
            ),
            always(
                "CT: no liver or bone lesion, old rib break.",
                "CT: no distant lesion.",
            ),
            always(
                "Medication: bisoprolol, pantoprazole; performance status 0; non-smoker since {year}.",
                "Medication: none; performance status 1; lives alone, family nearby.",
                "Medication: insulin; performance status 0; {children} children.",
            ),
            trap(
                "carried over",
                {
                    "always": (
                        "From last minutes (copied): Ca mammae {other}, not yet operated.",
                        "From last minutes (copied): G {core_grade} on core biopsy, nodes awaited.",
                    )
                },
                0.2,
            ),
            trap(
                "carried over",
                {
                    "always": (
                        "Correction: last minutes named the wrong side, {side} is meant; operated since.",
                        "Correction: last minutes are superseded by the pathologist's report.",
                    )
                },
                0.2,
            ),
            always(
                "Contouring protocol: {protocol}.",
                "Radiation oncology contours by {protocol}.",
                facts=("protocol",),
            ),
            always(
                "Question to radiation oncology: what do you propose?",
                "To be seen by radiation oncology within {weeks} weeks.",
            ),
        ),
    ),
)
