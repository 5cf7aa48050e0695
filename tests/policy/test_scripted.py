import subprocess
import sys
from pathlib import Path

import pytest

from gasp_rl.errors import EngineError
from gasp_rl.policy.engine import Loss, OptimParams, TrainItem
from gasp_rl.policy.scripted import ScriptedEngine

ITEM = TrainItem((1,), (2,), 1.0, (-1.0,))


def test_what_was_learned_can_be_read_step_by_step() -> None:
    engine = ScriptedEngine(lambda *_: "")
    other = TrainItem((1,), (3,), -1.0, (-1.0,))

    engine.forward_backward([ITEM], Loss(1.0)).result()
    engine.forward_backward([other], Loss(2.0)).result()
    engine.optim_step(OptimParams(0.1)).result()
    engine.optim_step(OptimParams(0.2)).result()

    assert engine.learned == [[ITEM, other], []]
    assert engine.losses == [Loss(1.0), Loss(2.0)]
    assert [step.lr for step in engine.steps] == [0.1, 0.2]


def test_it_has_no_weights_to_export(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="no weights"):
        ScriptedEngine(lambda *_: "").export_hf(tmp_path)


def test_it_needs_no_torch() -> None:
    code = "import sys, gasp_rl.policy.scripted, gasp_rl.policy.policy; sys.exit('torch' in sys.modules)"

    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
