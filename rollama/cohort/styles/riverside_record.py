"""Riverside's record of headed lines, abbreviated and in centimetres."""

from __future__ import annotations

from rollama.cohort.notes import Slot, Style, always, trap

RECORD = Style(
    name="record",
    separator="\n",
    words={
        "side": {"left": "Lt", "right": "Rt"},
        "other": {"left": "Lt", "right": "Rt"},
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
            "mucinous carcinoma": "mucinous ca",
            "mixed ductal and lobular carcinoma": "mixed IDC/ILC",
        },
        "er": {"positive": "pos", "negative": "neg"},
        "her2": {"positive": "pos", "negative": "neg"},
    },
    shuffle=(1, 2, 3),
    blocks=(
        (
            always("Pt: F, {age} y.", "Patient: female / {age} yrs.", facts=("age",)),
            trap(
                "carried over",
                {
                    "always": (
                        "[copied from referral] Dx: breast ca, {other}. Op pending.",
                        "[copied, visit before op] Bx gr {core_grade}, LN status awaited.",
                    )
                },
                0.22,
            ),
            always("Dx: breast ca, {side}, {site}.", "Breast, {side}. / {site}.", facts=("side", "site")),
            trap(
                "imaging",
                {
                    "imaging missed": ("US pre-op: {imaging_cm} cm, axilla (-).", "MRI pre-op: no suspicious LN."),
                    "imaging overcalled": ("US pre-op: {imaging_cm} cm, axillary LN suspected.",),
                    "imaging size": ("US pre-op: {imaging_cm} cm mass.", "MRI pre-op: {imaging_cm} cm lesion."),
                },
                0.5,
            ),
        ),
        (
            Slot(
                ("surgery",),
                {
                    "mastectomy changed": (
                        "Surgery: BCS planned, converted to total mastectomy.",
                        "Op done: TM (initially scheduled for BCS).",
                    ),
                    "conserving changed": (
                        "Surgery: BCS done; mastectomy in first plan, cancelled.",
                        "Op done: BCS (initially scheduled for TM).",
                    ),
                    "mastectomy": ("Surgery: total mastectomy.", "Op done: TM."),
                    "conserving": ("Surgery: BCS.", "Op done: partial mastectomy (BCS)."),
                },
            ),
            Slot(
                ("reconstruction",),
                {
                    "recon implant": ("Recon: yes, implant.", "Recon: direct-to-implant."),
                    "recon expander": ("Recon: yes, tissue expander.", "Recon: TE in place (expander)."),
                    "recon flap": ("Recon: yes, TRAM flap.", "Recon: LD flap."),
                    "flat": ("Recon: no.", "Recon: declined."),
                },
            ),
            Slot(("clips",), {"clips": ("Clips: 4 in cavity.", "Surgical clips (+).")}, 0.7),
            Slot(
                ("axilla", "nodes"),
                {
                    "axilla slnb": ("Axilla: SLNB, {pos}/{exam} LN(+).", "SLNB: nodes {pos} / {exam}."),
                    "axilla alnd": ("Axilla: ALND, {pos}/{exam} LN(+).", "ALND: nodes {pos} / {exam}."),
                },
            ),
        ),
        (
            always("Path: {histology}, gr {grade}.", "Histo: {histology}; NHG {grade}.", facts=("histology", "grade")),
            always("Size {cm} cm, {t}.", "Tumor {cm} cm, {t}.", facts=("t_stage",)),
            always("RM: {margin} mm.", "Resection margin, closest: {margin} mm.", facts=("margin",)),
            always("ER {er} / HER2 {her2}.", "IHC: ER {er}, HER2 {her2}.", facts=("receptors",)),
        ),
        (
            Slot(
                ("chemo",),
                {
                    "chemo neoadjuvant": ("CTx: NAC, {ct} before.", "Chemo: neoadj x6 (initial {ct})."),
                    "chemo adjuvant": ("CTx: adjuvant, done.", "Chemo: post-op AC-T."),
                    "chemo none": ("CTx: none.", "Chemo: (-)."),
                },
            ),
        ),
        (
            Slot(
                ("contralateral",),
                {
                    "contralateral implant": ("Hx: {other} TM + implant {year}, NED.",),
                    "contralateral mastectomy": ("Hx: {other} TM {year}, NED.",),
                    "contralateral clips": ("Hx: {other} BCS {year}, old clips there, NED.",),
                    "contralateral lumpectomy": ("Hx: {other} BCS {year}, NED.",),
                    "contralateral benign biopsy": ("Hx: {other} breast bx {year}, benign.",),
                    "always": ("Hx: HTN, DM(-).", "Hx: hepatitis B carrier.", "Hx: C/S x{children}."),
                },
            ),
            always("Mets w/u: bone scan (-), liver US (-), PET no distant lesion.", "M0: CT and bone scan (-)."),
        ),
        (
            always("Meds: losartan, aspirin.", "Meds: levothyroxine.", "Meds: atorvastatin, Ca/vit D."),
            always("Allergy: none known.", "Allergy: penicillin (rash).", chance=0.7),
            always("FHx: aunt with breast ca at 70.", "FHx: (-).", "FHx: father, gastric ca."),
            Slot(
                ("seroma",),
                {
                    "seroma": ("PE: seroma at op site, no LN palpable.", "PE: seroma (+), no edema, ECOG 0."),
                    "always": (
                        "PE: wound clean, no LN palpable, shoulder ROM full.",
                        "PE: no seroma, no edema, ECOG 0.",
                        "PE: healed scar, mild stiffness of shoulder.",
                    ),
                },
            ),
            always(
                "Social: no smoking, no alcohol, lives with {children} children.",
                "Social: office worker, nonsmoker.",
            ),
            trap(
                "carried over",
                {
                    "always": (
                        "Corr.: side in copied referral is wrong, correct side {side}; op is done.",
                        "Corr.: copied bx line outdated, surgical path counts.",
                    )
                },
                0.22,
            ),
            always("Dept contouring protocol: {protocol}.", "Protocol (dept): {protocol}.", facts=("protocol",)),
            always(
                "A/P: RT consult, CT sim to be scheduled, f/u {weeks} wks.",
                "A/P: explain RT, sim date by phone.",
            ),
        ),
    ),
)
