"""Riverside's dictated history, with slips of dictation and typing."""

from __future__ import annotations

from rollama.cohort.notes import Slot, Style, always, trap

DICTATION = Style(
    name="dictation",
    typos=0.09,
    words={
        "er": {"positive": "strongly positive", "negative": "negative"},
        "site": {"central area": "retroareolar area"},
    },
    shuffle=(2, 3, 4),
    blocks=(
        (
            always(
                "This is a {age} year old lady who comes in with her family today.",
                "Patient is a {age} year old woman seen for the first time today.",
                facts=("age",),
            ),
            always(
                "She has a cancer of the {side} breast and it sits in the {site}.",
                "Problem is {side} breast cancer, {site}.",
                facts=("side", "site"),
            ),
            always(
                "She felt it herself about {weeks} months before the diagnosis, no nipple discharge, no pain.",
                "It was picked up on a mammogram, no nipple discharge.",
                chance=0.6,
            ),
            trap(
                "imaging",
                {
                    "imaging missed": (
                        "The radiologist had called the armpit unsuspicious on ultrasound.",
                        "On the MRI they saw nothing suspicious in the armpit.",
                    ),
                    "imaging overcalled": (
                        "The radiologist had worried about nodes in the armpit on ultrasound.",
                        "On the MRI they thought the nodes were suspicious.",
                    ),
                    "imaging size": ("On ultrasound they had it at {imaging_size} millimeters.",),
                },
                0.5,
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
                    "recon implant": (
                        "She also had it reconstructed with an implant and is happy with it.",
                        "Plastics put in a silicone implant.",
                    ),
                    "recon expander": (
                        "She has an expander in and they are still filling it.",
                        "Plastics put in a tissue expander.",
                    ),
                    "recon flap": (
                        "She also had it reconstructed with a flap from her belly.",
                        "Plastics did a flap reconstruction.",
                    ),
                    "flat": (
                        "She did not have it reconstructed.",
                        "She wears a prosthesis in the bra, no reconstruction.",
                    ),
                },
            ),
            Slot(("clips",), {"clips": ("The surgeon left some clips in there.",)}, 0.7),
            Slot(("seroma",), {"seroma": ("There is some fluid under the scar, a seroma.",)}, 0.7),
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
                        "{exam_word} nodes came out and {pos_word} had cancer in them.",
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
                "It measured {size} millimeters, staged {t}.",
                "Measured {cm} cm, that is {t}.",
                facts=("t_stage",),
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
                "Her grandmother and an aunt had breast cancer, on the father's side.",
                "She takes water pills and something for sleep.",
                "She is on a blood thinner for an old clot in the leg.",
                "She has a bit of reflux, otherwise healthy.",
            ),
        ),
        (
            always(
                "No cough, no headaches, no bone pain.",
                "Scans are clean, nothing in the liver or bones.",
                chance=0.7,
            ),
            always(
                "For the record, our department contours by {protocol}.",
                "Department protocol is {protocol}.",
                facts=("protocol",),
            ),
            always(
                "We talked for a while and she is keen to go ahead.",
                "She is worried about the drive, it is an hour each way.",
                chance=0.6,
            ),
        ),
    ),
)
