"""Long-tailed modulations: the stages and losses of the long tail, and the weightings of two tasks, at imbalance 10 and 100.

24 modulations of 512 samples through the full channel at six SNRs; the commonest has 480 frames to learn from, the rarest 48 or 5, and the test has the
same number of each. `stages`: modulation alone, by the methods of `longtail.py`, with its network, optimiser, schedule and rows (mean recall of many-, medium-
and few-shot classes). `weightings`: modulation and SNR together by one network, the losses weighed by each rule of the registry `weightings`; the
losses are those of `lts_train task=amc`, or with LogitAdjustment for the modulation.

Finished (data, method, seed) are not run again; at the end, paired differences to CE and to fixed weights. Run:
  python benchmarks/amc_tail.py [--ratios 10 100] [--seeds 0 1 2] [--methods CE LA cRT ...] [--weightings fixed uncertainty dwa pcgrad gradnorm]
  python benchmarks/amc_tail.py --small      a toy
"""
import argparse, os, time, warnings
from pathlib import Path

os.environ.setdefault('OMP_NUM_THREADS', '1')
warnings.simplefilter('ignore')
import numpy as np
import torch

import longtail
from lt_signals.core.random import setup_seed
from lt_signals.core.rows import machine_name, row_frame, Rows
from lt_signals.data.dataloaders import build_dataloaders
from lt_signals.evaluation.multitask import AMCAnalyzer, predict_tasks
from lt_signals.evaluation.significance import compare_methods, comparison_text
from lt_signals.io.rml2018 import rml2018_classes
from lt_signals.losses.weightings import weightings
from lt_signals.synth.frame_sets import synth_modulations
from lt_signals.tasks.amc import amc_learner, grid_of
from lt_signals.training.classifier_stages import Stage1
from lt_signals.training.fit import fit_stages

METHODS = ['CE', 'CB', 'balanced softmax', 'LA', 'post-hoc LA', 'cRT', 'LWS', 'τ-norm', 'sqrt', 'BalPoE']
LOSSES = {'': 'CrossEntropy', ', LA': 'LogitAdjustment'}  # of the modulation, with each weighting


def frames(ratio, seed, args):
    "Loaders of a set whose training part is long-tailed."
    store = synth_modulations(args.classes, args.snrs, args.n_per, args.length, seed=seed)
    return build_dataloaders(store, batch_size=64, val_ratio=.1, test_ratio=.1, stratify='snr_db', group=None, augment=['PhaseRotation'],
                             imbalance_ratio=ratio, seed=seed, device=args.device, in_memory=True, targets=list(grid_of(store)) if args.targets else None)


def of_stages(ratio, seed, methods, done, args):
    "Rows of the methods of the long tail."
    args.targets = False
    make = lambda s: (frames(ratio, s, args), 'ConvNetADSB', dict(epochs=args.epochs, lr=2e-3), max(args.epochs//2, 1))
    return longtail.run_seed(f'modulations, {ratio:g}', seed, methods, done, make)


def of_weighting(ratio, seed, weighting, loss, args):
    "Scores of one network for both tasks."
    args.targets = True
    dls = frames(ratio, seed, args)
    setup_seed(seed)
    began = time.process_time()
    learn = amc_learner(dls, 'ResNet1D', loss, weighting=weighting, depth=3, width=32)
    learn.model.to(args.device)
    stage = Stage1(epochs=args.epochs, lr=2e-3, monitor='combined_accuracy')
    with learn.no_bar(), learn.no_logging():
        fitted, = fit_stages(learn, [stage], seed=seed, evaluate=lambda *_: {})
    preds = predict_tasks(learn, dls.test)
    res, counts = AMCAnalyzer(args.classes, args.snrs).analyze(preds), np.asarray(dls.class_counts)
    recall = np.array(res['modulation']['recall'], float)
    third = np.array_split(np.argsort(-counts, kind='stable'), 3)
    scores = dict(res['accuracy'], mae_db=res['snr']['mae_db'], **{k: float(recall[i].mean()) for k, i in zip(('common', 'between', 'rare'), third)})
    return dict(scores=scores, weights={k: round(v, 4) for k, v in learn.loss_func.weights.items()}, best_epoch=fitted['best_epoch'],
                class_counts=counts.tolist(), seconds=round(time.process_time() - began, 1))


def compared(rows, data, score, baseline):
    "Paired differences over the seeds."
    f = row_frame([r for r in rows if r['data'] == data])
    if f.empty or f.seed.nunique() < 2 or baseline not in set(f.method): return ''
    return comparison_text(compare_methods(f.pivot_table(index='seed', columns='method', values=score), baseline)).to_string()


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('--ratios', nargs='+', type=float, default=[10., 100.], help='commonest over rarest class')
    p.add_argument('--seeds', nargs='+', type=int, default=[0, 1, 2])
    p.add_argument('--methods', nargs='*', default=METHODS, help='of longtail.py; none: no stages')
    p.add_argument('--weightings', nargs='*', default=[*weightings], help='of the registry; none: no weightings')
    p.add_argument('--epochs', type=int, default=20)
    p.add_argument('--out', default=str(Path(__file__).with_suffix('.json')))
    p.add_argument('--device', default='cuda' if torch.cuda.is_available() else 'cpu')
    p.add_argument('--threads', type=int, default=1)
    p.add_argument('--small', action='store_true', help='a toy: four modulations, 128 samples')
    args = p.parse_args()
    torch.set_num_threads(args.threads)
    longtail.DEVICE = args.device
    args.classes, args.snrs, args.n_per, args.length = rml2018_classes, [0., 4., 8., 12., 16., 20.], 100, 512
    if args.small: args.classes, args.snrs, args.n_per, args.length, args.epochs = ['BPSK', 'QPSK', '16QAM', 'GMSK'], [0., 10., 20.], 40, 128, 2
    rows = Rows(args.out, device=machine_name(args.device))
    for seed in args.seeds:
        for ratio in args.ratios:
            name = f'modulations, {ratio:g}'
            done = {r['method'] for r in rows if (r['data'], r['seed']) == (name, seed)}
            for r in of_stages(ratio, seed, args.methods, done, args): rows.add(**r)
            for w in args.weightings:
                for more, loss in LOSSES.items():
                    if rows.find(f'both, {ratio:g}', w + more, seed): continue
                    r = rows.add(f'both, {ratio:g}', w + more, seed, **of_weighting(ratio, seed, w, loss, args))
                    print(f'both, {ratio:g} seed {seed} {w + more:20} ' + ' '.join(f'{k} {v:.3f}' for k, v in r['scores'].items()), flush=True)
    for ratio in args.ratios:
        for data, score, base in ((f'modulations, {ratio:g}', 'macro_recall', 'CE'), (f'both, {ratio:g}', 'combined', 'fixed')):
            if text := compared(rows, data, score, base): print(f'\n{data}: {score}\n{text}')


if __name__ == '__main__': main()
