"""Riverside: a record of headed lines, and a dictated history."""

from __future__ import annotations

from rollama.cohort.notes import Slot, Style, always

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
            always("Dx: breast ca, {side}, {site}.", "Breast, {side}. / {site}.", facts=("side", "site")),
        ),
        (
            Slot(
                ("surgery",),
                {
                    "mastectomy changed": (
                        "Surgery: BCS planned, converted to total mastectomy.",
                        "Op done: MRM (initially scheduled for BCS).",
                    ),
                    "conserving changed": (
                        "Surgery: BCS done; mastectomy in first plan, cancelled.",
                        "Op done: BCS (initially scheduled for TM).",
                    ),
                    "mastectomy": ("Surgery: total mastectomy.", "Op done: MRM."),
                    "conserving": ("Surgery: BCS.", "Op done: partial mastectomy (BCS)."),
                },
            ),
            Slot(
                ("reconstruction",),
                {
                    "reconstruction": ("Recon: yes, TRAM flap.", "Recon: yes, tissue expander."),
                    "flat": ("Recon: no.", "Recon: declined."),
                },
            ),
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
            always("Size {cm} cm, {t}.", "Tumor {cm} cm = {t}.", facts=("t_stage",)),
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
                    "contralateral mastectomy": ("Hx: {other} TM {year}, NED.",),
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
            always(
                "PE: wound clean, no LN palpable, shoulder ROM full.",
                "PE: no seroma, no edema, ECOG 0.",
                "PE: healed scar, mild stiffness of shoulder.",
            ),
            always(
                "Social: no smoking, no alcohol, lives with {children} children.",
                "Social: office worker, nonsmoker.",
            ),
            always(
                "A/P: RT consult, CT sim to be scheduled, f/u {weeks} wks.",
                "A/P: explain RT, sim date by phone.",
            ),
        ),
    ),
)

DICTATION = Style(
    name="dictation",
    words={
        "er": {"positive": "strongly positive", "negative": "negative"},
        "site": {"central area": "retroareolar area"},
    },
    shuffle=(2, 3, 4),
    blocks=(
        (
            always(
                "This is a {age} year old lady who comes in with her daughter today.",
                "Patient is a {age} year old woman seen for the first time today.",
                facts=("age",),
            ),
            always(
                "She has a cancer of the {side} breast and it sits in the {site}.",
                "Problem is {side} breast cancer, {site}.",
                facts=("side", "site"),
            ),
            always(
                "She felt it herself about {weeks} months back, no nipple discharge, no pain.",
                "Picked up on mammogram, not palpable, no skin changes.",
                chance=0.7,
            ),
        ),
        (
            Slot(
                ("chemo",),
                {
                    "chemo neoadjuvant": (
                        "It was a {ct} so the oncologist gave chemo first and it shrank.",
                        "Upfront chemo was given because it was {ct}.",
                    ),
                },
            ),
            Slot(
                ("surgery",),
                {
                    "mastectomy changed": (
                        "They wanted to save the breast but margins made a completion mastectomy necessary.",
                        "The talk was of a lumpectomy, what she got was a mastectomy.",
                    ),
                    "conserving changed": (
                        "She had signed for a mastectomy but changed her mind and got a lumpectomy.",
                        "The talk was of a mastectomy, what she got was a lumpectomy.",
                    ),
                    "mastectomy": ("She had a mastectomy.", "The surgeon did a mastectomy on that side."),
                    "conserving": ("She had a lumpectomy.", "The surgeon did a lumpectomy on that side."),
                },
            ),
            Slot(
                ("reconstruction",),
                {
                    "reconstruction": (
                        "She also had it reconstructed and is happy with it.",
                        "Plastics did the reconstruction.",
                    ),
                    "flat": (
                        "She did not have it reconstructed.",
                        "She wears a prosthesis in the bra, no reconstruction.",
                    ),
                },
            ),
            Slot(
                ("axilla",),
                {
                    "axilla slnb": ("In the armpit only sentinel nodes were taken.", "Axilla was sentinel only."),
                    "axilla alnd": ("In the armpit a full dissection was done.", "Axilla was fully dissected."),
                },
            ),
        ),
        (
            Slot(
                ("nodes",),
                {
                    "nodes none": (
                        "{exam_word} nodes came out and all of them were clean.",
                        "None of the {exam} nodes had cancer in it.",
                    ),
                    "nodes some": (
                        "{exam_word} nodes came out and {pos_word} had cancer in it.",
                        "{Pos_word} out of {exam} nodes had cancer.",
                    ),
                },
            ),
            always(
                "Pathology says {histology} grade {grade}.",
                "On the slides a {histology}, grade {grade}.",
                facts=("histology", "grade"),
            ),
            always(
                "It measured {size} millimeters which makes it {t}.", "Measured {cm} cm so {t}.", facts=("t_stage",)
            ),
            always(
                "The tightest margin is {margin} millimeters.",
                "Margin wise we have {margin} millimeters.",
                facts=("margin",),
            ),
            always("Estrogen receptor {er}, HER2 {her2}.", facts=("receptors",)),
            Slot(
                ("chemo",),
                {
                    "chemo adjuvant": ("After surgery she went through chemo.", "Chemo followed the surgery."),
                    "chemo none": ("She did not need chemo.", "No chemo for her."),
                },
            ),
        ),
        (
            Slot(
                ("contralateral",),
                {
                    "contralateral mastectomy": ("On the {other} she had her breast taken off back in {year}.",),
                    "contralateral lumpectomy": (
                        "On the {other} she had a small lump cut out back in {year}, also cancer.",
                    ),
                    "contralateral benign biopsy": ("They once biopsied the {other} one, that was nothing.",),
                    "always": ("The {other} one is fine.",),
                },
            ),
        ),
        (
            always(
                "She takes water pills and something for sleep.",
                "She is on a blood thinner for an old clot in the leg.",
                "She has a bit of reflux, otherwise healthy.",
            ),
        ),
        (
            always(
                "No cough, no headaches, no bone pain.",
                "Scans are clean, nothing in the liver or bones.",
            ),
            always(
                "We talked for a while and she is keen to go ahead.",
                "She is worried about the drive, it is an hour each way.",
            ),
        ),
    ),
)

STYLES = (RECORD, DICTATION)
