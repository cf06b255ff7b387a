"""Thousands of classes: files grow with the classes and not with their square, checkpoints carry no results, and nothing holds a cell for each pair of classes.

The slow test trains 10,000 classes in a process of its own, as `benchmarks/classes.py` does.
"""
import os
import runpy
import tracemalloc
import warnings
from pathlib import Path

import numpy as np
import pytest

SCRIPT = Path(__file__).parents[1]/'benchmarks'/'classes.py'


def train(tmp_path, n):
    "Three stages with `n` classes of four signals; the run folder, and the size of its checkpoint after each epoch."
    from fastai.callback.core import Callback
    from lt_signals.io.write import write_signals
    from lt_signals.runs.experiment import run_experiment
    y = np.repeat(np.arange(n), 4)
    x = np.random.default_rng(0).standard_normal((len(y), 2, 32), np.float32)
    write_signals(x, tmp_path/f'{n}.h5', labels=y)
    sizes = []

    class Size(Callback):
        order = 101  # after the checkpoint
        def after_epoch(self): sizes.append(next(tmp_path.glob(f'runs{n}/emitter_2*/checkpoints/state.pt')).stat().st_size)

    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        run = run_experiment({'data.path': str(tmp_path/f'{n}.h5'), 'out_dir': str(tmp_path/f'runs{n}'), 'progress': False, 'device': 'cpu', 'threads': 1,
                              'data.batch_size': 256, 'data.val_ratio': .25, 'data.test_ratio': .25, 'model.name': 'ResNet1D', 'training.epochs': 1,
                              'model.options': dict(depth=2, width=4), 'stage2.epochs': 1, 'visualization.enabled': False}, cbs=[Size()])
    return run, sizes


def test_files_grow_with_the_classes(tmp_path):
    few, sizes = train(tmp_path, 500)
    many, large = train(tmp_path, 2000)
    files = [p.relative_to(few.path) for p in few.path.rglob('*') if p.is_file() and 'predictions' not in p.name]
    assert Path('checkpoints/results_2.json') in files
    for f in files:
        a, b = ((run.path/f).stat().st_size for run in (few, many))
        assert b < 4.6*a + 4000, f'{f}: {a} bytes for 500 classes, {b} for 2,000'
    assert large[1] < 1.1*large[0], 'a checkpoint of stage 2 carries more than its own stage'
    assert large[0] < 2**20
    assert (many.predictions).stat().st_size < 2000*2000*4 + 10**6  # the logits of the test signals, once


def test_no_cell_for_each_pair_of_classes():
    import seaborn  # noqa: F401, loaded before memory is watched
    from matplotlib.figure import Figure
    from lt_signals.evaluation.analysis import ClassificationAnalyzer
    from lt_signals.evaluation.figures import figures
    n = 10_000
    rng = np.random.default_rng(0)
    truth = np.arange(n)
    said = np.where(rng.random(n) < .5, truth, rng.integers(0, n, n))
    names = [k for k in figures if figures.info[k]['needs'] == ('test',)]  # loaded before memory is watched
    tracemalloc.start()
    res = ClassificationAnalyzer(rng.integers(1, 300, n)).analyze_predictions(truth, said)
    for name in names: figures[name](res, ax=Figure().add_subplot())
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert {'confusion', 'confusion_normalized', 'best_and_worst'} <= {*names}
    assert peak < n*n/2, f'{peak/2**20:.0f} MB'


@pytest.mark.slow # two processes of minutes
@pytest.mark.skipif(os.name != 'posix', reason='needs os.wait4')
def test_ten_thousand_classes():
    run_scores = runpy.run_path(str(SCRIPT))['run_scores']
    few, many = run_scores(2500), run_scores(10_000)
    assert many['peak_bytes'] < 2e9
    for k in ('state_bytes', 'results_bytes', 'recipe_bytes', 'plots_bytes'): assert many[k] < 4.6*few[k], k
