"""Losses for several labels on synthetic steel plates in the proportions of the real ones: F1 of each class, over seeds.

Every seed draws its own plates: 2,000 to train, 800 to validate, 2,000 to test, of 48×300 pixels; the rarest of the four defects is on two of a
hundred. Network, augmentation, optimiser, schedule and length are the same for every loss; of the learning rates each loss and seed takes the one that is
better on validation. The best epoch is that of the best macro F1 on validation with each class at its best threshold. Scores are kept twice: at thresholds
chosen on validation, and at 1/2.

With --folds, the reference protocol for several labels a plate: one set of 4,800 plates, five folds by iterative stratification (Sechidis, Tsoumakas & Vlahavas
2011, doi:10.1007/978-3-642-23808-6_10; Szymański & Kajdanowicz 2017, which keeps pairs of labels too), each the test once; a sixth of the others validates and
chooses thresholds. Average precision and AUROC of every class, macro F1, exact match over all plates and over the clean ones (no defect named on a plate that has none).

Finished (data, loss, seed, rate, fold) are kept in the results file and not run again. Run:
  python benchmarks/defects.py [--seeds 0 1 2] [--losses BCE 'focal, dynamic' ...] [--rates 0.006] [--out benchmarks/defects.json]
  python benchmarks/defects.py --folds --seeds 0 [--losses BCE asymmetric]
  python benchmarks/defects.py --folds --quick --seeds 0 --losses BCE --out /tmp/defects.json      300 plates, two epochs: whether it runs
"""
import argparse, os, time, warnings
from itertools import combinations, product
from pathlib import Path

warnings.simplefilter('ignore')
import numpy as np
import torch
from iterstrat.ml_stratifiers import MultilabelStratifiedKFold
from sklearn.metrics import roc_auc_score
from torch import nn

from lt_signals.core.random import setup_seed
from lt_signals.core.rows import flat_row, machine_name, Rows
from lt_signals.data.image_transforms import image_augmentation
from lt_signals.data.dataloaders import build_dataloaders
from lt_signals.data.splits import Split, stratified_split
from lt_signals.synth.plate_sets import synth_plates
from lt_signals.evaluation.multilabel import MultiLabelAnalyzer, predict_labels
from lt_signals.tasks.defects import defects_learner, evaluate_labels
from lt_signals.training.classifier_stages import Stage1
from lt_signals.training.fit import fit_stages

LOSSES = {
    'BCE': ('MultiLabelBCE', {}),
    'focal, dynamic': ('MultiLabelFocal', dict(alpha='dynamic')),
    'focal': ('MultiLabelFocal', {}),
    'BCE, balanced': ('MultiLabelBCE', dict(pos_weight='balanced')),
    'asymmetric': ('Asymmetric', {}),
    'class-balanced': ('MultiLabelClassBalanced', {}),
}
PARTS = 2000, 800, 2000
STAGE = dict(epochs=20, weight_decay=1e-2, warmup_epochs=2, monitor='best_label_f1')


def loaders(seed):
    "Plates of a seed, divided so that every part has its share of every label."
    store = synth_plates(sum(PARTS), (48, 300), seed=seed)
    return batches(store, stratified_split(store.labels, np.array(PARTS)/sum(PARTS), seed=seed), seed)


def fold_split(labels, fold, seed):
    "Train, validation and test of one of five iterative folds; labels and their pairs keep their shares."
    cv = MultilabelStratifiedKFold(5, shuffle=True, random_state=seed)
    rest, test = list(cv.split(np.zeros(len(labels)), with_pairs(labels)))[fold]
    train, valid, _ = stratified_split(labels[rest], (5/6, 1/6, 0), seed=seed)
    return Split(rest[train], rest[valid], np.sort(test))


def with_pairs(labels):
    "Labels, and a column for each pair that some plates show."
    y = np.asarray(labels, int)
    pairs = [y[:, a]*y[:, b] for a, b in combinations(range(y.shape[1]), 2)]
    return np.column_stack([y, *(p for p in pairs if p.sum() >= 5)])


def fold_loaders(seed, fold):
    "Plates of a seed, one fold of them the test."
    store = synth_plates(sum(PARTS), (48, 300), seed=seed)
    return batches(store, fold_split(store.labels, fold, seed), seed)


def batches(store, split, seed):
    "Loaders of a split."
    return build_dataloaders(store, split=split, batch_size=32, device=DEVICE, seed=seed,
                             augment=image_augmentation(horizontal_flip=.5, vertical_flip=.5, brightness_contrast=True))


def network():
    "Standardised plates, four convolutions, and the strongest answer anywhere on the plate."
    def block(i, o, stride): return [nn.Conv2d(i, o, 3, stride, 1, bias=False), nn.BatchNorm2d(o), nn.ReLU()]
    body = [layer for sizes in ((1, 12, 2), (12, 24, 2), (24, 48, 2), (48, 64, 1)) for layer in block(*sizes)]
    return nn.Sequential(nn.InstanceNorm2d(1), *body, nn.AdaptiveMaxPool2d(1), nn.Flatten(), nn.Linear(64, 4))


def scores(analysis):
    "What is kept of an analysis."
    cls = [*analysis['per_class'].values()]
    return {k: [c[k] for c in cls] for k in ('f1', 'precision', 'recall', 'ap', 'auroc')} | {
        k: analysis['overall'][k] for k in ('macro_f1', 'micro_f1', 'macro_ap', 'exact_match', 'hamming_loss')}


def clean_scores(preds, thresholds):
    "Of plates without a defect: their share, how many have none named, and AUROC of the strongest defect for damaged against clean."
    y, named = preds.targets.numpy() > 0, (preds.probs.numpy() >= thresholds)
    clean, damage = ~y.any(1), preds.probs.numpy().max(1)
    return dict(clean_share=float(clean.mean()), clean_exact=float((~named[clean]).all(1).mean()),
                damaged_exact=float((named[~clean] == y[~clean]).all(1).mean()), damaged_auroc=float(roc_auc_score(~clean, damage)))


def run_loss(name, dls, seed, lr):
    "Train with one loss; what a row has of it."
    loss, options = LOSSES[name]
    setup_seed(seed)
    learn = defects_learner(dls, network(), loss, loss_options=options)
    learn.model.to(DEVICE)
    t = time.perf_counter()
    with learn.no_bar(), learn.no_logging():
        stage, = fit_stages(learn, [Stage1(lr=lr, **STAGE)], seed=seed, evaluate=evaluate_labels)
    seconds, preds = time.perf_counter() - t, predict_labels(learn, dls.test)
    thresholds = [*stage['thresholds'].values()]
    half = MultiLabelAnalyzer(dls.class_counts).analyze(preds, .5)
    got = dict(valid=max(r['best_label_f1'] for r in stage['history']), half=scores(half),
               chosen=scores(stage['labels']) | clean_scores(preds, np.array(thresholds)))
    for k in ('chosen', 'half'):
        print(f'seed {seed} {name:15} rate {lr:g} {k:6} F1 ' + ' '.join(f'{100*(v or 0):5.1f}' for v in got[k]['f1'])
              + f'  macro {100*got[k]["macro_f1"]:.1f}  AP ' + ' '.join(f'{100*(v or 0):5.1f}' for v in got[k]['ap']) + f'  {seconds:.0f} s', flush=True)
    return dict(scores=got, thresholds=thresholds, best_epoch=stage['best_epoch'], class_counts=[int(n) for n in dls.class_counts],
                parts=[len(i) for i in dls.split], history=[[r['train_loss'], r['best_label_f1']] for r in stage['history']], seconds=round(seconds, 1))


def best_rates(records):
    "Of each loss and seed, the record with the best score on validation."
    by = {}
    for r in sorted(records, key=lambda r: r['valid']): by[r['loss'], r['seed']] = r
    return {k: by[k] for k in dict.fromkeys((r['loss'], r['seed']) for r in records)}


def table(rows):
    "Mean over seeds, and the difference to BCE on the same plates, in percent."
    records = [dict(flat_row(r), loss=r['method']) for r in rows if r['data'] == 'plates']
    if not records: return
    by = best_rates(records)
    rarest = int(np.argmin(records[0]['class_counts']))
    for k in ('chosen', 'half'):
        print(f'\nthresholds {k}: F1 of the rarest class, macro F1 (difference to BCE, each seed), mean AP')
        for name in dict.fromkeys(r['loss'] for r in records):
            seeds = [s for l, s in by if l == name]
            line = f'{name:15}'
            for get in (lambda r: r[k]['f1'][rarest], lambda r: r[k]['macro_f1']):
                v = np.array([get(by[name, s]) for s in seeds])
                base = [get(by['BCE', s]) for s in seeds if ('BCE', s) in by]
                diff = ' '.join(f'{100*d:+5.1f}' for d in v - base) if len(base) == len(v) else ''
                line += f' {100*v.mean():5.1f} ({diff})'
            print(line + f' {100*np.mean([by[name, s][k]["macro_ap"] for s in seeds]):5.1f}')


def main():
    global DEVICE, PARTS
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('--seeds', nargs='+', type=int, default=[0, 1, 2])
    p.add_argument('--losses', nargs='+', default=list(LOSSES), choices=list(LOSSES))
    p.add_argument('--rates', nargs='+', type=float, default=[6e-3])
    p.add_argument('--folds', action='store_true', help='five iterative folds of one set instead of sets of their own')
    p.add_argument('--quick', action='store_true', help='300 plates and two epochs, to try the script')
    p.add_argument('--out', default=str(Path(__file__).with_suffix('.json')))
    p.add_argument('--device', default='cuda' if torch.cuda.is_available() else 'cpu')
    p.add_argument('--threads', type=int, default=os.cpu_count())
    args = p.parse_args()
    DEVICE = args.device
    torch.set_num_threads(args.threads)
    if args.quick:
        PARTS = 150, 50, 100
        STAGE.update(epochs=2, warmup_epochs=.5)
    rows, made = Rows(args.out, device=machine_name(DEVICE)), {}
    data, folds = ('plates, five folds', range(5)) if args.folds else ('plates', [None])
    if args.quick: data += ', quick'
    for loss, seed, lr, fold in product(args.losses, args.seeds, args.rates, folds):
        settings = dict(lr=lr) | ({} if fold is None else dict(fold=fold))
        if rows.find(data, loss, seed, **settings): continue
        if (seed, fold) not in made: made[seed, fold] = loaders(seed) if fold is None else fold_loaders(seed, fold)
        rows.add(data, loss, seed, settings=settings, **run_loss(loss, made[seed, fold], seed, lr))
    table(rows)


if __name__ == '__main__': main()
