"""How good the embedded model is: its own evaluator, over the public RPC, holds it to the card's targets."""

import subprocess
import sys

from phi_programs import ROOT, Serve

EVALUATION_SECONDS = 240


def test_answers_of_the_held_out_prompts_pass_their_checks(figure):
    server = Serve()
    server.wait_ready()
    command = [sys.executable, str(ROOT / "tools/train/evaluate"), "--check", "--target", server.address]
    done = subprocess.run(command, capture_output=True, text=True, timeout=EVALUATION_SECONDS, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    for line in done.stdout.splitlines():
        figure(f"embedded model: {line}")
    assert server.stop() == 0
