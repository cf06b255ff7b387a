"""Long-tail methods on the same signals: mean recall of many-, medium- and few-shot classes, over seeds.

`synth`: 100 synthetic emitters, 300 to 3 training messages each, a fresh set of emitters for every seed; 10 validation and 20 test
messages of every emitter. `quick`: the same with 30 emitters, for a look. `rtl433`: the real 433 MHz recordings, split by file (found
through LTS_DATA or in ../shared/data). Every method has the same network (experts share all but its last two blocks), augmentation,
optimiser, schedule and length of training, unless its name says otherwise; the classifier methods start from the features that another
row has learned and add epochs of the classifier alone. The best epoch and tau are chosen on validation. Each row has accuracies on
forward, uniform and backward tests too (`shifts`), experts also with shares learned from the unlabelled signals of each test.

Finished (data, method, seed) are kept in the results file and not run again. Run:
  python benchmarks/longtail.py [--data synth rtl433] [--seeds 0 1 2] [--methods CE LA ... | --set classic|new|all] [--out FILE]
"""
import argparse, os, time, warnings
from pathlib import Path

warnings.simplefilter('ignore')
import torch

from lt_signals.core.random import setup_seed
from lt_signals.core.files import shared_data
from lt_signals.core.rows import machine_name, Rows
from lt_signals.io.signal_store import SignalStore
from lt_signals.io.readers import open_signals
from lt_signals.data.dataloaders import build_dataloaders
from lt_signals.data.splits import stratified_split
from lt_signals.synth.emitters import synth_emitters
from lt_signals.evaluation.metrics import summary_row
from lt_signals.training.classifier_stages import Stage1, Stage2
from lt_signals.training.calibration_stage import Stage3
from lt_signals.training.learner import classifier_learner
from lt_signals.training.fit import fit_stages
from lt_signals.training.test_shifts import TestShifts

SCRATCH = {  # trained from scratch: fields of `Stage1`, and the head
    'CE': {},
    'focal': dict(loss='FocalLoss'),
    'CB': dict(loss='ClassBalanced'),
    'CB, deferred': dict(drw_start=.8),
    'LDAM-DRW': dict(loss='LDAM', drw_start=.8, head='cosine'),
    'balanced softmax': dict(loss='BalancedSoftmax'),
    'LA': dict(loss='LogitAdjustment'),
    'sqrt': dict(sampler='sqrt'),
    'progressive': dict(sampler='progressive_balanced'),
    'CE, SGD': dict(optimizer='SGD', lr=.05, weight_decay=5e-4),
    'CE, EMA': dict(ema_decay=.99),
    'CE, mixup': dict(mixup=.2),
    'CE, decay': dict(weight_decay=.3),
    'experts, CE': dict(net='experts'),
    'BalPoE': dict(net='experts', loss='BalPoE'),
    'BalPoE, mixup': dict(net='experts', loss='BalPoE', mixup=.2),
    'SADE': dict(net='experts', loss='SADE'),
    'SADE, diversity': dict(net='experts', loss='SADE', loss_options=dict(diversity=.2)),
    'BalPoE, EMA': dict(net='experts', loss='BalPoE', ema_decay=.99),
    'BCL': dict(loss='BCL', head='contrast', views=[{'PhaseRotation': {}}, {'RandomNoiseSNR': dict(snr_range=(10, 30), p=.5)}]),
    'ETF': dict(loss='DotRegression', head='etf'),
    'CE, noise': dict(augment=[{'PhaseRotation': {}}, {'RandomNoiseSNR': dict(snr_range=(10, 30), p=.5)}]),
    'front ends': dict(augment=[{'PhaseRotation': {}}, {'PhaseNoise': dict(max_linewidth=2e-5)}, {'IQImbalance': dict(max_gain_db=.2, max_phase_deg=1.)}]),
}
AFTER = {  # what features they start from, and their stage; `tau` is chosen on validation
    'post-hoc LA': ('CE', lambda epochs: Stage3('logit_adjust', metric='macro_recall', temperature=False)),
    'cRT': ('CE', lambda epochs: Stage2(mode='crt', epochs=epochs)),
    'LWS': ('CE', lambda epochs: Stage2(mode='lws', epochs=epochs)),
    'τ-norm': ('CE', lambda epochs: Stage3('tau_norm', metric='macro_recall', temperature=False)),
    'τ-norm, SGD': ('CE, SGD', lambda epochs: Stage3('tau_norm', metric='macro_recall', temperature=False)),
    'cRT, cycling': ('CE', lambda epochs: Stage2(mode='crt', epochs=epochs, sampler_options=dict(cycle=True))),
    'cRT, noise': ('CE, noise', lambda epochs: Stage2(mode='crt', epochs=epochs)),
    'cRT, mixup': ('CE, mixup', lambda epochs: Stage2(mode='crt', epochs=epochs)),
    'cRT, EMA': ('CE, EMA', lambda epochs: Stage2(mode='crt', epochs=epochs)),
    'LORT': ('CE', lambda epochs: Stage2(mode='crt', epochs=epochs, loss='LORT', sampler='none')),
    'MiSLAS': ('CE, mixup', lambda epochs: Stage2(mode='lws', epochs=epochs, loss='LabelAwareSmoothing', shift_bn=True)),
    'weight balancing': ('CE, decay', lambda epochs: Stage2(mode='maxnorm', epochs=epochs, loss='ClassBalanced', sampler='none', decay=.1)),
    'experts, cRT': ('experts, CE', lambda epochs: Stage2(mode='crt', epochs=epochs)),
    'experts, post-hoc LA': ('experts, CE', lambda epochs: Stage3('logit_adjust', metric='macro_recall', temperature=False)),
}
CLASSIC = ['CE', 'focal', 'CB', 'LDAM-DRW', 'balanced softmax', 'LA', 'post-hoc LA', 'cRT', 'LWS', 'τ-norm', 'sqrt', 'progressive']
NEW = ['LORT', 'cRT, cycling', 'CE, EMA', 'cRT, EMA', 'CE, noise', 'cRT, noise', 'cRT, mixup', 'experts, CE', 'experts, cRT', 'experts, post-hoc LA', 'SADE', 'BalPoE', 'BalPoE, mixup',
       'BalPoE, EMA', 'SADE, diversity', 'CE, mixup', 'MiSLAS', 'CE, decay', 'weight balancing', 'ETF', 'BCL']
SETS = dict(classic=CLASSIC, new=NEW, all=[*SCRATCH, *AFTER])
EXPERTS = dict(ConvNetADSB='SharedExpertsConvNet') # networks whose experts share their beginning
REAL = [{'RandomTimeShift': dict(max_shift=256, p=.5, circular=True)}, {'CarrierOffset': dict(max_offset=.44, p=.8)},
        {'PhaseRotation': {}}, {'IQSwap': dict(p=.5)}, {'RandomAmplitude': dict(scale_range=(-6, 6), db=True, p=1.)},
        {'RandomNoiseSNR': dict(snr_range=(5, 30), p=.5)}]


def synth(seed):
    "Loaders, name of the network, epochs of training and of the classifier alone."
    return emitters(100, seed), 'ConvNetADSB', dict(epochs=20, lr=2e-3), 8


def quick(seed):
    "As `synth`, with 30 emitters and as many steps as in 12 of its epochs."
    return emitters(30, seed), 'ConvNetADSB', dict(epochs=40, lr=2e-3), 8


def emitters(n, seed, augment=('PhaseRotation',)):
    "Loaders of so many emitters."
    made = synth_emitters(n, 300, 100., n_valid=10, n_test=20, seed=seed)
    store = SignalStore(made.source, 512, 'rms')
    return build_dataloaders(store, batch_size=64, augment=list(augment), seed=seed, device=DEVICE, in_memory=True)


def rtl433(seed):
    "As `synth`, for the real recordings: half the files of a class train, a fifth validate, the others test."
    folder = shared_data('rtl433')
    if folder is None: raise SystemExit('the recordings are not here: set LTS_DATA, or run with --data synth')
    store = open_signals(folder, sample_rate=250e3, window=4096, hop=2048, range_db=5)
    file = store.meta['capture'].to_numpy()
    split = stratified_split(store.labels, (.5, .2, .3), groups=file, seed=seed, classes=store.classes)
    dls = build_dataloaders(store, split=split, batch_size=64, augment=REAL, seed=seed, device=DEVICE, in_memory=True)
    return dls, 'SpectrumEnvelopeNet', dict(epochs=8, lr=2e-3, weight_decay=.02), 3


def run_method(name, learn, stages, prior=None, **facts):
    "Run stages on a learner; what is kept of the last one, and the prior that the head has learned."
    t = time.perf_counter()
    with learn.no_bar(), learn.no_logging():
        *_, stage, shifted = fit_stages(learn, [*stages, TestShifts()], seed=facts['seed'], prior=prior)
    seconds, row = time.perf_counter() - t, summary_row(stage['test'])
    print(f'{facts["data"]} seed {facts["seed"]} {name:17} ' + ' '.join(f'{k} {100*(v or 0):5.1f}' for k, v in row.items())
          + f'   {seconds:.0f} s', flush=True)
    scores = {k: stage['test']['overall'][k] for k in ('macro_recall', 'macro_f1')}
    scores |= dict(test=row, valid=summary_row(stage['valid']), ece=stage['calibration']['ece'], shifts=shifted['shifts'],
                   ece_of={k: v['ece'] for k, v in stage['calibration']['scores'].items()})
    rec = dict(method=name, **facts, scores=scores, tau=stage.get('tau'), best_epoch=stage['best_epoch'], seconds=round(seconds, 1))
    return rec, stage['prior']


def run_seed(data, seed, methods, done, make=None):
    "Yield a row for every method that has none yet; `make` gives what a function of the name `data` here gives."
    todo = [m for m in methods if m not in done]
    after = {base: [m for m in todo if m in AFTER and AFTER[m][0] == base] for base in SCRATCH}
    if todo: dls, net, settings, epochs = (make or globals()[data])(seed)
    for base in [m for m in SCRATCH if m in todo or after[m]]:
        own = dict(SCRATCH[base])
        kind, head, augment = own.pop('net', None), own.pop('head', 'linear'), own.pop('augment', None)
        if kind == 'experts' and net not in EXPERTS: continue
        name, how = (EXPERTS[net], {}) if kind == 'experts' else (net, dict(head=head))
        loaders = dls.with_train(dls.train.new(batch_tfms=augment)) if augment else dls

        def fresh():
            setup_seed(seed)
            learn = classifier_learner(loaders, name, **how)
            learn.model.to(DEVICE)
            return learn
        learn = fresh()
        rec, prior = run_method(base, learn, [Stage1(**{**settings, **own})], data=data, seed=seed)
        weights = {k: v.clone() for k, v in learn.model.state_dict().items()}
        norms = learn.model.get_classifier().weight.detach().norm(dim=1)
        counts = [int(n) for n in dls.class_counts]
        if base in todo: yield dict(rec, class_counts=counts, weight_norms=[round(float(v), 4) for v in norms])
        for m in after[base]:
            learn = fresh()
            learn.model.load_state_dict(weights)
            rec, _ = run_method(m, learn, [AFTER[m][1](epochs)], prior, data=data, seed=seed)
            yield dict(rec, class_counts=counts)


def main():
    global DEVICE
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('--data', nargs='+', default=['synth', 'rtl433'], choices=['synth', 'quick', 'rtl433'])
    p.add_argument('--seeds', nargs='+', type=int, default=[0, 1, 2])
    p.add_argument('--methods', nargs='+', choices=[*SCRATCH, *AFTER], help='one by one, instead of a set')
    p.add_argument('--set', default='classic', choices=SETS, dest='chosen')
    p.add_argument('--shifts', action='store_true', help='run rows again that lack the forward and backward tests')
    p.add_argument('--out', default=str(Path(__file__).with_suffix('.json')))
    p.add_argument('--device', default='cuda' if torch.cuda.is_available() else 'cpu')
    p.add_argument('--threads', type=int, default=os.cpu_count())
    args = p.parse_args()
    DEVICE = args.device
    torch.set_num_threads(args.threads)
    rows = Rows(args.out, device=machine_name(DEVICE))
    for data in args.data:
        for seed in args.seeds:
            done = {r['method'] for r in rows if (r['data'], r['seed']) == (data, seed) and ('shifts' in r['scores'] or not args.shifts)}
            for r in run_seed(data, seed, args.methods or SETS[args.chosen], done): rows.add(**r)


if __name__ == '__main__': main()
