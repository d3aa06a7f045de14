"""How each centre's authors write: sentence templates only, no logic. One module a style.

Lakeside is never seen in training; none of its templates occurs in another centre's styles.
"""

from __future__ import annotations

from rollama.cohort.notes import Style
from rollama.cohort.styles.eastmoor_bilingual import BILINGUAL
from rollama.cohort.styles.eastmoor_sheet import SHEET
from rollama.cohort.styles.hillcrest_board import BOARD
from rollama.cohort.styles.hillcrest_report import REPORT
from rollama.cohort.styles.lakeside_discharge import DISCHARGE
from rollama.cohort.styles.lakeside_form import FORM
from rollama.cohort.styles.northgate_clinic import CLINIC
from rollama.cohort.styles.northgate_letter import LETTER
from rollama.cohort.styles.riverside_dictation import DICTATION
from rollama.cohort.styles.riverside_record import RECORD

STYLES: dict[str, tuple[Style, ...]] = {
    "northgate": (LETTER, CLINIC),
    "riverside": (RECORD, DICTATION),
    "hillcrest": (REPORT, BOARD),
    "eastmoor": (SHEET, BILINGUAL),
    "lakeside": (DISCHARGE, FORM),
}
"""The styles in use at each centre."""
