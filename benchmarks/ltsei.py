"""Long-tailed identification of ADS-B transmitters after the protocol of LT-SEI (doi:10.1109/TITS.2023.3308716), where nothing but the hardware names the class.

100 synthetic Mode S transmitters; the most frequent is heard 360 times in training, the rarest 360 times the imbalance factor (.01: 3 times); 10 validation and 40
test messages of every one. The recordings of the paper are not public; every seed draws other transmitters here. Address and content of each message are drawn
afresh, and `leak_check` asks whether the bits name the transmitter: its answer is kept in every row. `message` is the whole message, `preamble` its first 8
microseconds, before any content.

  baseline    cross-entropy on the messages as they are
  decoupled   the same features, the classifier trained again on balanced batches (cRT): the two steps of LT-SEI
  LA          logit adjustment in the loss, trained at once

F1 is the mean over the classes. Every class is in the test as often as every other, so that macro F1 over classes with support, scikit-learn's macro F1 and the
weighted F1 are the same number. Finished (data, method, seed, factor) are kept in the results file and not run again. Run:
  python benchmarks/ltsei.py [--data message preamble] [--factors .01] [--seeds 0 1 2] [--methods baseline decoupled LA] [--out benchmarks/ltsei.json]
  python benchmarks/ltsei.py --quick --out /tmp/ltsei.json      12 transmitters, a minute: whether it runs
"""
import argparse, os, time, warnings
from pathlib import Path

warnings.simplefilter('ignore')
import numpy as np
import torch
from sklearn.metrics import f1_score

from lt_signals.core.random import setup_seed
from lt_signals.core.rows import machine_name, Rows
from lt_signals.data.dataloaders import build_dataloaders
from lt_signals.evaluation.leakage import leak_check
from lt_signals.evaluation.metrics import summary_row
from lt_signals.evaluation.predictions import predict
from lt_signals.io.signal_store import SignalStore
from lt_signals.synth.emitters import synth_emitters
from lt_signals.training.classifier_stages import Stage1, Stage2
from lt_signals.training.fit import fit_stages
from lt_signals.training.learner import classifier_learner

LENGTHS = dict(message=512, preamble=44)  # samples at 4 MS/s: 2 µs of noise, then the message of 120 µs or its preamble of 8 µs
METHODS = 'baseline', 'decoupled', 'LA'
FULL, QUICK = dict(n=100, most=360, epochs=20, again=8, n_test=40), dict(n=12, most=100, epochs=3, again=2, n_test=10)


def loaders(data, factor, seed, size, device):
    "Loaders of the transmitters, and what their bits say of them."
    made = synth_emitters(size['n'], size['most'], 1/factor, n_valid=10, n_test=size['n_test'], target_length=LENGTHS[data], seed=seed)
    leak = leak_check(made, bits='message')
    store = SignalStore(made.source, LENGTHS[data], 'rms')
    return build_dataloaders(store, batch_size=64, augment=['PhaseRotation'], seed=seed, device=device, in_memory=True), leak


def scores_of(learn, stage):
    "F1 by class, averaged in the ways there are, and the recalls of the groups."
    p = predict(learn, learn.dls.test)
    y, said = p.targets.numpy(), p.labels.numpy()
    f1 = {f'{k}_f1': float(f1_score(y, said, average=k, zero_division=0)) for k in ('macro', 'weighted')}
    return f1 | dict(macro_f1_supported=stage['test']['overall']['macro_f1'], recall=summary_row(stage['test']))


def run(methods, dls, seed, size, device):
    "Yield each method with its scores; `decoupled` starts from the features of `baseline`."
    def learner():
        setup_seed(seed)
        learn = classifier_learner(dls, 'ConvNetADSB')
        learn.model.to(device)
        return learn

    def fit(learn, stage, prior=None):
        t = time.perf_counter()
        with learn.no_bar(), learn.no_logging(): res, = fit_stages(learn, [stage], seed=seed, prior=prior)
        return dict(scores=scores_of(learn, res), best_epoch=res['best_epoch'], seconds=round(time.perf_counter() - t, 1)), res['prior']

    settings = dict(epochs=size['epochs'], lr=2e-3)
    if {'baseline', 'decoupled'} & set(methods):
        learn = learner()
        row, prior = fit(learn, Stage1(**settings))
        yield 'baseline', row
        if 'decoupled' in methods: yield 'decoupled', fit(learn, Stage2(mode='crt', epochs=size['again']), prior)[0]
    if 'LA' in methods: yield 'LA', fit(learner(), Stage1(loss='LogitAdjustment', **settings))[0]


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('--data', nargs='+', default=[*LENGTHS], choices=[*LENGTHS])
    p.add_argument('--factors', nargs='+', type=float, default=[.01], help='training messages of the rarest over those of the most frequent')
    p.add_argument('--seeds', nargs='+', type=int, default=[0, 1, 2])
    p.add_argument('--methods', nargs='+', default=[*METHODS], choices=METHODS)
    p.add_argument('--quick', action='store_true', help='12 transmitters and few epochs, to try the script')
    p.add_argument('--out', default=str(Path(__file__).with_suffix('.json')))
    p.add_argument('--device', default='cuda' if torch.cuda.is_available() else 'cpu')
    p.add_argument('--threads', type=int, default=os.cpu_count())
    args = p.parse_args()
    torch.set_num_threads(args.threads)
    size = QUICK if args.quick else FULL
    rows = Rows(args.out, device=machine_name(args.device))
    for seed in args.seeds:
        for data in args.data:
            for factor in args.factors:
                settings = dict(factor=factor, transmitters=size['n'])
                todo = [m for m in args.methods if not rows.find(data, m, seed, **settings)]
                if not todo: continue
                dls, leak = loaders(data, factor, seed, size, args.device)
                facts = dict(class_counts=[int(n) for n in dls.class_counts], n_test=len(dls.test.indices),
                             leak=dict(accuracy=leak.accuracy, chance=leak.chance, leaks=bool(leak.leaks)))
                for method, row in run(todo, dls, seed, size, args.device):
                    if method in todo: rows.add(data, method, seed, settings=settings, **row, **facts)
                    f1, few = row['scores']['macro_f1'], row['scores']['recall']['few']
                    print(f'{data} factor {factor:g} seed {seed} {method:10} F1 {100*f1:5.1f}  few {100*(few or 0):5.1f}  {row["seconds"]:.0f} s', flush=True)


if __name__ == '__main__': main()
