"""Eastmoor's note from across the border: German clinical shorthand mixed with English, umlauts spelt out."""

from __future__ import annotations

from rollama.cohort.notes import Slot, Style, always, trap

BILINGUAL = Style(
    name="bilingual",
    words={
        "side": {"left": "links", "right": "rechts"},
        "site": {
            "upper outer quadrant": "oben aussen",
            "lower outer quadrant": "unten aussen",
            "upper inner quadrant": "oben innen",
            "lower inner quadrant": "unten innen",
            "central area": "zentral",
        },
        "histology": {
            "ductal carcinoma": "invasiv-duktales Karzinom",
            "lobular carcinoma": "invasiv-lobulaeres Karzinom",
            "mucinous carcinoma": "muzinoeses Karzinom",
            "mixed ductal and lobular carcinoma": "gemischt duktal-lobulaeres Karzinom",
        },
        "er": {"positive": "positiv", "negative": "negativ"},
        "her2": {"positive": "positiv", "negative": "negativ"},
    },
    shuffle=(2, 3, 4),
    blocks=(
        (
            always(
                "{age}-jaehrige Patientin, Mammakarzinom {side} {site}.",
                "Pat., {age} J., Mamma-Ca {side}, Lokalisation {site}.",
                "Seen today: {age}-jaehrige Patientin mit Mammakarzinom {side} ({site}).",
                facts=("age", "side", "site"),
            ),
            trap(
                "carried over",
                {
                    "always": (
                        "[Aus der Zuweisung kopiert:] Mamma-Ca {other}, OP ausstehend.",
                        "[Aus der Zuweisung kopiert:] Stanze G{core_grade}, OP und LK-Status ausstehend.",
                    )
                },
                0.22,
            ),
            trap(
                "imaging",
                {
                    "imaging missed": (
                        "Sono praeoperativ {imaging_size} mm, Axilla unauffaellig.",
                        "Preoperative MRI: keine suspekten Lymphknoten.",
                    ),
                    "imaging overcalled": ("Sono praeoperativ {imaging_size} mm, suspekte LK axillaer.",),
                    "imaging size": (
                        "Sono praeoperativ {imaging_size} mm.",
                        "Preoperative MRI: Herd von {imaging_size} mm.",
                    ),
                },
                0.55,
            ),
        ),
        (
            Slot(
                ("surgery",),
                {
                    "mastectomy changed": (
                        "Z.n. Ablatio {side}, BET war geplant.",
                        "Geplant war eine BET, durchgefuehrt wurde eine Ablatio.",
                    ),
                    "conserving changed": (
                        "Z.n. BET {side}, Ablatio war geplant.",
                        "Geplant war eine Ablatio, durchgefuehrt wurde eine BET.",
                    ),
                    "mastectomy": ("Z.n. Ablatio {side}.", "Status post Ablatio mammae {side}."),
                    "conserving": ("Z.n. BET {side}.", "Status post brusterhaltende Operation {side}."),
                },
            ),
            Slot(
                ("reconstruction",),
                {
                    "recon implant": ("Sofortrekonstruktion mit Implantat.", "Implantat-Rekonstruktion, well healed."),
                    "recon expander": ("Gewebeexpander in situ.", "Expander eingelegt, filling ongoing."),
                    "recon flap": ("Rekonstruktion mit DIEP-Lappen.", "Latissimus-Lappen, well healed."),
                    "flat": ("Keine Rekonstruktion.", "Reconstruction nicht gewuenscht."),
                },
            ),
            Slot(
                ("axilla", "nodes"),
                {
                    "axilla slnb": (
                        "Sentinel {pos}/{exam} befallen.",
                        "Sentinel node biopsy: {pos} von {exam} Lymphknoten befallen.",
                    ),
                    "axilla alnd": (
                        "Axilladissektion, {pos}/{exam} LK befallen.",
                        "Axillary dissection: {pos} von {exam} Lymphknoten befallen.",
                    ),
                },
            ),
            Slot(("clips",), {"clips": ("Wundhoehle mit Clips markiert.", "Clips in der Wundhoehle.")}, 0.7),
        ),
        (
            always(
                "Histo: {histology}, G{grade}, {size} mm, {t}.",
                "Final pathology: {histology}, {t} ({size} mm), G{grade}.",
                facts=("histology", "grade", "t_stage"),
            ),
            always(
                "Schnittrand {margin_comma} mm.",
                "R0, kleinster Abstand zum Schnittrand {margin_comma} mm.",
                facts=("margin",),
            ),
            always("ER {er}, HER2 {her2}.", "Receptors: ER {er}, HER2 {her2}, Ki-67 15 %.", facts=("receptors",)),
        ),
        (
            Slot(
                ("chemo",),
                {
                    "chemo neoadjuvant": (
                        "Neoadjuvante Chemotherapie bei {ct}.",
                        "Neoadjuvant chemotherapy (initial {ct}), gut vertragen.",
                    ),
                    "chemo adjuvant": (
                        "Adjuvante Chemotherapie abgeschlossen.",
                        "Postoperative Chemotherapie, last cycle vor {weeks} Wochen.",
                    ),
                    "chemo none": ("Keine Chemotherapie.", "Chemotherapie war nicht indiziert."),
                },
            ),
        ),
        (
            Slot(
                ("contralateral",),
                {
                    "contralateral implant": ("Gegenseite: Z.n. Ablatio {other} {year} mit Implantat.",),
                    "contralateral mastectomy": ("Gegenseite: Z.n. Ablatio {other} {year}.",),
                    "contralateral lumpectomy": ("Gegenseite: Z.n. BET {other} {year}, no relapse.",),
                    "contralateral benign biopsy": ("Gegenseite: Stanzbiopsie {other} {year}, benigne.",),
                    "always": ("Gegenseite unauffaellig.", "Mamma {other} o.B."),
                },
            ),
        ),
        (
            always(
                "Staging CT and bone scan: keine Fernmetastasen.",
                "Kein Anhalt fuer Fernmetastasen, liver and lungs clear.",
            ),
            Slot(
                ("seroma",),
                {
                    "seroma": ("Serom im Wundgebiet, not punctured.", "On examination Serom unter der Narbe."),
                    "always": (
                        "Narbe reizlos, kein Serom, kein Lymphoedem.",
                        "On examination kein Lokalbefund, shoulder frei beweglich.",
                        "Wound dry, keine Schmerzen.",
                    ),
                },
            ),
            always(
                "Familienanamnese: Tante mit Mamma-Ca, sonst leer.",
                "Family history leer.",
                chance=0.6,
            ),
            always(
                "Medikation: Bisoprolol, L-Thyroxin; no known allergies.",
                "Medikation: keine; Penicillin allergy.",
                "NB: art. Hypertonie, Diabetes mellitus Typ 2.",
            ),
            always(
                "Lives with husband, Dolmetscher nicht noetig, ECOG 0.",
                "Nichtraucherin, {children} Kinder, speaks German and some English.",
                "Lives across the border, Anfahrt 40 Minuten, ECOG 0.",
            ),
            trap(
                "carried over",
                {
                    "always": (
                        "Seitenangabe der Zuweisung ist falsch, richtig ist {side}; OP ist erfolgt.",
                        "Angaben der Zuweisung sind ueberholt, es gilt die postoperative Histologie.",
                    )
                },
                0.22,
            ),
            always(
                "Contouring im Hause nach {protocol}.",
                "Unsere Abteilung konturiert nach {protocol}.",
                facts=("protocol",),
            ),
            always("Einwilligung unterschrieben.", "All questions answered, Planungs-CT booked.", chance=0.7),
        ),
    ),
)
