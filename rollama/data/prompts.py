"""Prompts of S and P: where the input ends and the answer begins.

Training, evaluation and serving must build the same string, so it is built here only. The answer starts right
after the prompt; the loss counts answer tokens and the closing end-of-text token, nothing else.
"""

from __future__ import annotations

from rollama.core.registry import Task

_TEMPLATES = {
    Task.SUMMARY: "### Clinical note\n{text}\n### Summary\n",
    Task.PLAN: "### Summary\n{text}\n### Radiotherapy plan\n",
}

_INSTRUCTIONS = {
    Task.SUMMARY: "Summarise this breast cancer clinical note for radiotherapy planning in a few short sentences.",
    Task.PLAN: (
        "Suggest a breast radiotherapy plan for this patient. Answer in this form: Side: left or right. Surgery: "
        "breast-conserving or mastectomy. Volumes: whole breast, chest wall or none. Nodes: levels out of L1, L2, L3, "
        "L4, interpectoral, IMN, or none. Boost: none, or kind, dose and fractions. Prescription: dose in Gy and "
        "fractions. Technique: 3D-CRT or VMAT. Guideline: ESTRO or RTOG."
    ),
}


def build_prompt(task: Task, text: str) -> str:
    """The prompt that S or P was trained on, for `text` (a note for S, a summary for P)."""
    return _TEMPLATES[task].format(text=text.strip())


def build_instruction(task: Task, text: str) -> str:
    """The user message for a model that was not trained here (the zero-shot baseline), for its chat template."""
    return f"{_INSTRUCTIONS[task]}\n\n{text.strip()}"
