"""How the centres' authors write about prostate patients: sentence templates only, no logic.

Two ways of writing, letters and abbreviated records, are spread over the training centres; lakeside, never seen in
training, writes letters of its own and shares no template with them (checked by a test).
"""

from __future__ import annotations

from rollama.cohort.notes import Slot, Style, always, trap

LETTER = Style(
    name="prostate letter",
    blocks=(
        (
            always("Thank you for referring this {age}-year-old man with {cancer}.",
                   "I saw your patient, aged {age}, who has {cancer}.", facts=("age",)),
        ),
        (
            Slot(("surgery", "t_stage"), {
                "operated": ("In {year} he had a radical prostatectomy for a pT{t} tumour.",
                             "His prostate was removed in {year}; pathology staged a pT{t} tumour."),
            }),
            trap("reconsidered", {
                "operated reconsidered": ("At first active surveillance had been agreed upon.",),
                "intact reconsidered": ("A radical prostatectomy had been booked for the spring.",),
            }, 1.0),
            Slot(("surgery",), {
                "intact reconsidered": ("He has since decided against the operation and it was never done.",
                                        "He then withdrew his consent, so the prostate is still in place."),
                "intact": ("He has had no prostate surgery.", "The prostate has never been operated on."),
            }),
            Slot(("t_stage",), {
                "t 1c": ("The gland feels normal, so the stage is cT{t}.", "Nothing is palpable (cT{t})."),
                "t 3b": ("MRI shows growth into a seminal vesicle, stage cT{t}.",),
                "t 3a": ("MRI shows growth beyond the capsule, stage cT{t}.",),
                "t 2": ("A nodule confined to the gland makes this cT{t}.", "The palpable nodule is staged cT{t}."),
            }),
            Slot(("gleason", "cores"), {
                "intact": ("Biopsy found Gleason {gleason} cancer in {positive} of {cores} cores.",
                           "Of {cores} cores {positive} contained cancer, Gleason {gleason}."),
            }),
            Slot(("gleason", "margin"), {
                "margin positive": ("The specimen was Gleason {gleason} with a positive margin.",),
                "margin clear": ("The specimen was Gleason {gleason} and the margins were free.",),
            }),
            Slot(("nodes",), {
                "operated nodes some": ("Of {examined} lymph nodes removed, {involved} held metastases.",),
                "operated": ("None of {examined} lymph nodes removed was involved.",),
            }),
        ),
        (
            Slot(("psa",), {
                "operated": ("PSA became undetectable but has risen to {psa} ng/ml.",
                             "After a nadir below 0.1 the PSA is now {psa} ng/ml."),
                "intact": ("The PSA stands at {psa} ng/ml.", "PSA at diagnosis was {psa} ng/ml."),
            }),
            Slot((), {"operated": ("Before the operation it had been {first_psa} ng/ml.",)}, 0.6),
            Slot(("nodes",), {
                "intact mri node": ("MRI described an enlarged iliac lymph node.",),
                "intact": ("On MRI the lymph nodes are of normal size.", "MRI shows no enlarged lymph node."),
            }),
            Slot(("psma",), {
                "psma overruled": ("PSMA-PET did not confirm it: there is no uptake outside the prostate.",),
                "psma node": ("PSMA-PET shows uptake in a pelvic lymph node.",
                              "A pelvic lymph node takes up the tracer on PSMA-PET."),
                "psma local": ("PSMA-PET shows a focus at the anastomosis and nothing else.",),
                "operated psma clear": ("PSMA-PET found no uptake anywhere.",),
                "psma clear": ("PSMA-PET shows uptake in the prostate alone.",),
                "psma none": ("A PSMA-PET was not done.", "He has not had a PSMA-PET."),
            }),
        ),
        (
            Slot(("ipss",), {
                "intact severe": ("Urinary symptoms are severe, with an IPSS of {ipss}.",),
                "intact": ("His IPSS is {ipss}.", "Urinary symptoms are bearable, IPSS {ipss}."),
            }),
            Slot((), {
                "past bph": ("He took tamsulosin for benign enlargement for some years.",),
                "past hernia": ("A groin hernia was repaired decades ago.",),
                "past colonoscopy": ("A colonoscopy last year was normal.",),
            }),
            always("He wishes to hear about the options.", "He came with his wife.", chance=0.5),
        ),
    ),
)  # fmt: skip

RECORD = Style(
    name="prostate record",
    separator="\n",
    shuffle=(1, 2),
    blocks=(
        (
            always("Pt {age}y M. Dx: {cancer}.", "M, {age} yrs. {Cancer}.", facts=("age",)),
        ),
        (
            trap("reconsidered", {
                "operated reconsidered": ("Hx: AS planned initially, abandoned.",),
                "intact reconsidered": ("Hx: RP on waiting list.",),
            }, 1.0),
            Slot(("surgery", "t_stage"), {
                "operated": ("s/p RP {year}, pT{t}.", "RP done {year}: pT{t}."),
            }),
            Slot(("surgery",), {
                "intact reconsidered": ("RP cancelled by pt, not done.",),
                "intact": ("No RP.", "No prior prostate surgery."),
            }),
            Slot(("t_stage",), {
                "t 1c": ("DRE neg, cT{t}.",),
                "t 3b": ("cT{t} (SV invaded on MRI).",),
                "t 3a": ("cT{t} (ECE on MRI).",),
                "t 2": ("DRE/MRI: cT{t}.", "Nodule, cT{t}."),
            }),
        ),
        (
            Slot(("psa",), {
                "operated": ("PSA now {psa}, rising.", "PSA {psa} (nadir <0.1)."),
                "intact": ("PSA {psa}.", "iPSA {psa} ng/ml."),
            }),
            Slot((), {"operated": ("Preop PSA {first_psa}.",)}, 0.6),
            Slot(("gleason", "cores"), {
                "intact": ("Bx: GS {gleason}, {positive}/{cores} cores +.",),
            }),
            Slot(("gleason", "margin"), {
                "margin positive": ("Path: GS {gleason}, R1.",),
                "margin clear": ("Path: GS {gleason}, R0.",),
            }),
            Slot(("nodes",), {
                "operated": ("LN {involved}/{examined} +.",),
                "intact mri node": ("MRI: iliac LN enlarged.",),
                "intact": ("MRI: no LN enlarged.",),
            }),
            Slot(("psma",), {
                "psma overruled": ("PSMA-PET: LN not avid, prostate only.",),
                "psma node": ("PSMA-PET: avid pelvic LN.",),
                "psma local": ("PSMA-PET: avid focus at anastomosis only.",),
                "operated psma clear": ("PSMA-PET: neg.",),
                "psma clear": ("PSMA-PET: prostate only.",),
                "psma none": ("PSMA-PET: not done.",),
            }),
        ),
        (
            Slot(("ipss",), {"intact": ("IPSS {ipss}.",)}),
            Slot((), {
                "past bph": ("PMH: BPH, tamsulosin.",),
                "past hernia": ("PMH: inguinal hernia repair.",),
                "past colonoscopy": ("PMH: colonoscopy 2023 nad.",),
            }),
        ),
    ),
)  # fmt: skip

ADVICE = Style(
    name="prostate advice",
    blocks=(
        (
            always("We are asked for advice on a gentleman of {age} years.",
                   "This gentleman, {age} years of age, has {cancer} and seeks our advice.", facts=("age",)),
        ),
        (
            Slot(("psa",), {
                "operated": ("His latest PSA value of {psa} ng/ml confirms a biochemical relapse.",),
                "intact": ("It was a PSA value of {psa} ng/ml that led to his diagnosis.",),
            }),
            Slot(("psma",), {
                "psma overruled": ("Tracer (PSMA) lit up within the gland only; the node seen on MRI stayed dark.",),
                "psma node": ("Tracer (PSMA) lit up in a lymph node of the pelvis.",),
                "psma local": ("Tracer (PSMA) lit up where bladder and urethra were joined, nowhere else.",),
                "operated psma clear": ("Nothing lit up with the PSMA tracer.",),
                "psma clear": ("Tracer (PSMA) lit up within the gland only.",),
                "psma none": ("No scan with a PSMA tracer exists.",),
            }),
            Slot(("nodes",), {
                "operated nodes some": ("The surgeon took {examined} nodes, of which {involved} proved diseased.",),
                "operated": ("The surgeon took {examined} nodes, all of them healthy.",),
                "intact mri node": ("A swollen node beside the iliac vessels is reported from the MRI.",),
                "intact": ("The MRI report mentions no swollen nodes.",),
            }),
        ),
        (
            trap("reconsidered", {
                "operated reconsidered": ("Watchful observation was the original intention.",),
                "intact reconsidered": ("Surgery was the original intention.",),
            }, 1.0),
            Slot(("surgery", "t_stage"), {
                "operated": ("The whole gland was taken out in {year}, the category being pT{t}.",),
            }),
            Slot(("surgery",), {
                "intact reconsidered": ("That plan was given up, and nothing has been removed.",),
                "intact": ("Nothing has been removed so far.",),
            }),
            Slot(("gleason", "cores"), {
                "intact": ("Microscopy showed patterns {gleason} (Gleason) in {positive} cores out of {cores}.",),
            }),
            Slot(("gleason", "margin"), {
                "margin positive": ("Patterns were {gleason} (Gleason), and tumour reached the cut surface.",),
                "margin clear": ("Patterns were {gleason} (Gleason), and the cut surface was tumour-free.",),
            }),
            Slot(("t_stage",), {
                "t 3b": ("A vesicle is infiltrated, which amounts to cT{t}.",),
                "t 3a": ("The capsule is breached, which amounts to cT{t}.",),
                "intact": ("Examination amounts to cT{t}.",),
            }),
        ),
        (
            Slot(("ipss",), {"intact": ("On the symptom questionnaire (IPSS) he scores {ipss}.",)}),
            Slot((), {
                "past bph": ("Tablets for a benign large gland were stopped long ago.",),
                "past hernia": ("An operation for a hernia lies many years back.",),
                "past colonoscopy": ("His bowel was inspected with an endoscope and found healthy.",),
            }),
        ),
    ),
)  # fmt: skip

STYLES = {"northgate": LETTER, "hillcrest": LETTER, "riverside": RECORD, "eastmoor": RECORD, "lakeside": ADVICE}
"""The style in use at each centre."""
