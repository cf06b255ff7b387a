"""What many classes cost: a run of three stages with thousands of classes, and ROC curves of each class against the rest beside scikit-learn's.

    python benchmarks/classes.py                       both, at the sizes of the page; rows that are there are not made again
    python benchmarks/classes.py run 500 1000          runs with so many classes
    python benchmarks/classes.py roc 20000x200         ROC curves of so many samples x classes

Rows go to benchmarks/classes.json. A run is a process of its own (8 signals of 128 samples a class, 6 of them to train on; ResNet1D with two stages, one epoch each):
its processor time and its largest resident memory are what the system says of that process, with the imports, which the run of 50 classes shows. The
peer of the ROC curves is scikit-learn's `roc_curve` and `auc`, class by class, read off at the same rates; both are computed in turn, in one process.
"""
import os, subprocess, sys, tempfile, time
from pathlib import Path

os.environ.setdefault('OMP_NUM_THREADS', '1')
import numpy as np

from lt_signals.core.rows import machine_name, Rows

PLACE = Path(__file__).with_suffix('.json')
RUNS, ROCS = ('50', '2500', '5000', '10000'), ('20000x200', '100000x1000')

DATA = """
import sys
import numpy as np
from lt_signals.io.write import write_signals
path, n = sys.argv[1], int(sys.argv[2])
rng, y = np.random.default_rng(0), np.repeat(np.arange(n), 8)
x = .3*rng.standard_normal((len(y), 2, 128), np.float32)
for i in range(0, len(y), 4096): # a tone for each class, with a phase of its own
    k = y[i:i+4096, None]
    turn = 2*np.pi*(k*.618 + (k % 97)/97*np.arange(128))
    x[i:i+4096] += np.stack([np.cos(turn), np.sin(turn)], 1)
write_signals(x, path, labels=y)
"""

RUN = """
import sys, warnings
warnings.simplefilter('ignore')
from lt_signals.runs.experiment import run_experiment
path, out = sys.argv[1:]
run_experiment({'task': 'emitter', 'data.path': path, 'data.val_ratio': .125, 'data.test_ratio': .125, 'out_dir': out, 'progress': False,
                'device': 'cpu', 'threads': 1, 'data.batch_size': 128, 'model.name': 'ResNet1D', 'model.options': dict(depth=2, width=8),
                'training.epochs': 1, 'stage2.epochs': 1})
"""


def process(code, *args):
    "Run code in a process of its own: its processor time in s, and its largest resident memory in bytes."
    p = subprocess.Popen([sys.executable, '-c', code, *map(str, args)])
    _, status, used = os.wait4(p.pid, 0)
    if status: sys.exit(f'a process ended with {os.waitstatus_to_exitcode(status)}')
    return used.ru_utime + used.ru_stime, used.ru_maxrss*(1 if sys.platform == 'darwin' else 1024)


def run_scores(n):
    "Three stages with `n` classes."
    with tempfile.TemporaryDirectory() as tmp:
        path, out = Path(tmp)/'signals.h5', Path(tmp)/'runs'
        process(DATA, path, n)
        seconds, peak = process(RUN, path, out)
        run = next(p for p in out.iterdir() if not p.is_symlink())
        size = lambda name: (run/name).stat().st_size
        plots = sum(p.stat().st_size for p in (run/'results'/'plots').iterdir())
        return dict(processor_s=round(seconds, 1), peak_bytes=peak, data_bytes=path.stat().st_size, state_bytes=size('checkpoints/state.pt'),
                    results_bytes=size('results/results.json'), recipe_bytes=size('recipe.json'), plots_bytes=plots,
                    predictions_bytes=size('results/predictions.safetensors'))


def sklearn_curves(y, scores, fpr):
    "What is usually written: `roc_curve` and `auc`, class by class; curves at the rates `fpr`, and areas."
    from sklearn.metrics import auc, roc_curve
    tpr, area = np.full((scores.shape[1], len(fpr)), np.nan), np.full(scores.shape[1], np.nan)
    for k in range(scores.shape[1]):
        is_k = y == k
        if is_k.any() and not is_k.all():
            x, t, _ = roc_curve(is_k, scores[:, k])
            tpr[k], area[k] = np.interp(fpr, x, t), auc(x, t)
    return np.nanmean(tpr, 0), np.nanmean(area)


def roc_scores(n, c, turns):
    "ROC curves of `c` classes and `n` samples, ours and scikit-learn's in turn."
    from lt_signals.evaluation.diagnostics import roc_curves
    rng = np.random.default_rng(0)
    y = rng.integers(0, c, n)
    scores = rng.standard_normal((n, c), np.float32)
    scores[np.arange(n), y] += 2
    ours, theirs = [], []
    for _ in range(turns):
        start = time.process_time(); res = roc_curves(y, scores); ours.append(time.process_time() - start)
        start = time.process_time(); curve, area = sklearn_curves(y, scores, res['fpr']); theirs.append(time.process_time() - start)
    mean = res['curves']['macro']
    return dict(lt_signals_s=min(ours), sklearn_s=min(theirs), ratio=min(theirs)/min(ours),
                difference=max(abs(mean['auroc'] - area), float(np.abs(np.array(mean['tpr']) - curve).max())))


def main(what='all', *sizes):
    "Make the rows that are not there."
    rows = Rows(PLACE, device=machine_name())
    for s in (sizes or RUNS) if what in ('all', 'run') else ():
        if not sizes and rows.find('tones', 'three stages', 0, classes=int(s)): continue
        print(rows.add('tones', 'three stages', 0, run_scores(int(s)), dict(classes=int(s)))['scores'], f'{s} classes', flush=True)
    for s in (sizes or ROCS) if what in ('all', 'roc') else ():
        n, c = map(int, s.split('x'))
        if not sizes and rows.find('normal scores', 'roc', 0, samples=n, classes=c): continue
        print(rows.add('normal scores', 'roc', 0, roc_scores(n, c, 3 if n*c < 10**7 else 1), dict(samples=n, classes=c))['scores'], s, flush=True)


if __name__ == '__main__': main(*sys.argv[1:])
