"""Losses for several labels on synthetic steel plates in the proportions of the real ones: F1 of each class, over seeds.

Every seed draws its own plates: 2,000 to train, 800 to validate, 2,000 to test, of 48×300 pixels; the rarest of the four defects is on two of a
hundred. Network, augmentation, optimiser, schedule and length are the same for every loss; of the learning rates each loss and seed takes the one that is
better on validation. The best epoch is that of the best macro F1 on validation with each class at its best threshold. Scores are kept twice: at thresholds
chosen on validation, and at 1/2.

Finished (loss, seed, rate) are kept in the results file and not run again. Run:
  python benchmarks/defects.py [--seeds 0 1 2] [--losses BCE 'focal, dynamic' ...] [--rates 0.006] [--out benchmarks/defects.json]
"""
import argparse, json, os, platform, time, warnings
from itertools import product
from pathlib import Path

warnings.simplefilter('ignore')
import numpy as np
import torch
from torch import nn

from lt_signals.core.random import setup_seed
from lt_signals.core.files import write_atomically
from lt_signals.data.image_transforms import image_augmentation
from lt_signals.data.dataloaders import build_dataloaders
from lt_signals.data.splits import stratified_split
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
    split = stratified_split(store.labels, np.array(PARTS)/sum(PARTS), seed=seed)
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
    return {k: [c[k] for c in cls] for k in ('f1', 'precision', 'recall', 'ap')} | {
        k: analysis['overall'][k] for k in ('macro_f1', 'micro_f1', 'macro_ap', 'exact_match', 'hamming_loss')}


def run_loss(name, dls, seed, lr):
    "Train with one loss; its record."
    loss, options = LOSSES[name]
    setup_seed(seed)
    learn = defects_learner(dls, network(), loss, loss_options=options)
    learn.model.to(DEVICE)
    t = time.perf_counter()
    with learn.no_bar(), learn.no_logging():
        stage, = fit_stages(learn, [Stage1(lr=lr, **STAGE)], seed=seed, evaluate=evaluate_labels)
    seconds = time.perf_counter() - t
    half = MultiLabelAnalyzer(dls.class_counts).analyze(predict_labels(learn, dls.test), .5)
    rec = dict(loss=name, seed=seed, lr=lr, valid=max(r['best_label_f1'] for r in stage['history']), chosen=scores(stage['labels']), half=scores(half), thresholds=[*stage['thresholds'].values()],
               best_epoch=stage['best_epoch'], class_counts=[int(n) for n in dls.class_counts], parts=PARTS,
               history=[[r['train_loss'], r['best_label_f1']] for r in stage['history']], seconds=round(seconds, 1))
    for k in ('chosen', 'half'):
        print(f'seed {seed} {name:15} rate {lr:g} {k:6} F1 ' + ' '.join(f'{100*v:5.1f}' for v in rec[k]['f1'])
              + f'  macro {100*rec[k]["macro_f1"]:.1f}  AP ' + ' '.join(f'{100*v:5.1f}' for v in rec[k]['ap']) + f'  {seconds:.0f} s', flush=True)
    return rec


def best_rates(records):
    "Of each loss and seed, the record with the best score on validation."
    by = {}
    for r in sorted(records, key=lambda r: r['valid']): by[r['loss'], r['seed']] = r
    return {k: by[k] for k in dict.fromkeys((r['loss'], r['seed']) for r in records)}


def table(records):
    "Mean over seeds, and the difference to BCE on the same plates, in percent."
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
    global DEVICE
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('--seeds', nargs='+', type=int, default=[0, 1, 2])
    p.add_argument('--losses', nargs='+', default=list(LOSSES), choices=list(LOSSES))
    p.add_argument('--rates', nargs='+', type=float, default=[6e-3])
    p.add_argument('--out', default=str(Path(__file__).with_suffix('.json')))
    p.add_argument('--device', default='cuda' if torch.cuda.is_available() else 'cpu')
    p.add_argument('--threads', type=int, default=os.cpu_count())
    args = p.parse_args()
    DEVICE, out = args.device, Path(args.out)
    torch.set_num_threads(args.threads)
    name = torch.cuda.get_device_name() if DEVICE.startswith('cuda') else f'{platform.machine()} CPU, {args.threads} thread(s)'
    records = json.loads(out.read_text()) if out.exists() else []
    done, made = {(r['loss'], r['seed'], r['lr']) for r in records}, {}
    for key in product(args.losses, args.seeds, args.rates):
        if key in done: continue
        loss, seed, lr = key
        if seed not in made: made[seed] = loaders(seed)
        records.append(dict(run_loss(loss, made[seed], seed, lr), device=name, torch=torch.__version__))
        write_atomically(out, '[' + ',\n'.join(json.dumps(r, ensure_ascii=False) for r in records) + ']\n')
    if records: table(records)


if __name__ == '__main__': main()
