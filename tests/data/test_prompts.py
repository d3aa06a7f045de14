from rollama.core.registry import Task
from rollama.data.prompts import build_instruction, build_prompt


def test_prompts_hold_the_text_and_end_where_the_answer_begins():
    for task in Task:
        prompt = build_prompt(task, "  the text \n")
        assert "\nthe text\n" in prompt
        assert prompt.endswith("\n")


def test_tasks_are_told_apart():
    assert build_prompt(Task.SUMMARY, "x") != build_prompt(Task.PLAN, "x")
    assert build_instruction(Task.SUMMARY, "x") != build_instruction(Task.PLAN, "x")
