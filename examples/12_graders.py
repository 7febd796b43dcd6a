"""Grade answers by rules of your own: OpenAI's graders, run on your machine.

    python examples/12_graders.py        some ten seconds after the model's download

The same grader works in `ftclient evaluate FILE --models A,B --grader grader.json`, and as the reward of OpenAI's
reinforcement fine-tuning. Python graders can read no files, environment, or network; they need Linux.
"""

import rich

from ftclient import Client, Dataset

TICKET = {
    "type": "multi",
    "name": "ticket",
    "graders": {
        "queue": {
            "type": "string_check",
            "input": "{{ sample.output_json.queue }}",
            "reference": "{{ item.ticket.queue }}",
            "operation": "eq",
        },
        "short": {
            "type": "python",
            "source": "def grade(sample, item):\n    return min(1.0, 60 / max(1, len(sample['output_text'])))\n",
        },
    },
    "calculate_output": "0.8 * queue + 0.2 * short",
}
LETTER = {"role": "user", "content": 'Write this and nothing else: {"queue": "TIP"}'}
EXAMPLE = {
    "messages": [LETTER, {"role": "assistant", "content": '{"queue": "TIP"}'}],
    "ticket": {"queue": "TIP"},
}

with Client.from_env() as client:
    graders = client.openai.fine_tuning.alpha.graders
    for answer in ('{"queue": "TIP"}', '{"queue": "PAY"}', "I would send this letter to the people who know."):
        found = graders.run(grader=TICKET, model_sample=answer, item=EXAMPLE)
        print(f"{found.reward:.2f} {found.sub_rewards} for {answer}")
    rich.print(client.evaluate(Dataset([EXAMPLE]), models=["smollm2-135m"], grader=TICKET))
