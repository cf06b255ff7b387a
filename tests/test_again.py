"""A run from the configuration of another: the same numbers, and what is replaced."""
import json

from forked import python
from lt_signals.core.runs import RunFolder
from lt_signals.runs.experiment import run_experiment

TRAIN = 'import sys; from lt_signals.apps.train import train_command; sys.exit(train_command(sys.argv[1:]))'
TINY = dict(seed=3, device='cpu', threads=1, progress=False, synth=dict(n_classes=3, n_max=20, imbalance_ratio=4., n_valid=4, n_test=4),
            training=dict(epochs=1), model=dict(name='ResNet1D', options=dict(depth=2, width=8)), stage2=dict(enabled=False),
            visualization=dict(enabled=False))


def scores(path): return json.loads(RunFolder(path).results.read_text())['summary']


def test_a_run_again(tmp_path):
    "The command gives the numbers of the run, whose folder was moved; another seed gives others, and a lost path is one line."
    first = run_experiment(TINY, out_dir=str(tmp_path/'a'), exp_name='tiny')
    moved = first.path.rename(tmp_path/'moved')
    train = lambda: python(TRAIN, f'from={moved}', f'out_dir={tmp_path}/b')
    status, _, err = train()
    assert status == 0, err
    assert scores(tmp_path/'b'/'tiny_latest') == scores(moved)
    config = json.loads((moved/'config.json').read_text())
    config['data']['path'] = 'recordings'
    (moved/'config.json').write_text(json.dumps(config))
    status, _, err = train()
    assert status == 2 and err.count('\n') == 1 and 'give data.path=' in err
