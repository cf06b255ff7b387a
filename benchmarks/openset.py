"""Open-set scores on the same features: how well unknown transmitters are told from known ones, and whether the tail pays for it.

`synth`: 36 synthetic emitters of which 12, spread over the frequencies, are unknown; the others have 400 to 8 training messages; a fresh
set of emitters for every seed. `rtl433`: the real 433 MHz recordings; the kinds of device with one or two recordings are unknown, the others
are split by file (found through LTS_DATA or in ../shared/data). For every seed a network is trained with each loss and every score is
fitted to the same features: `plain`; with the class prior taken out of the logits (`prior`, tau = 1, where the loss has not done it); in
units of the predicted class (`class`); with both. The threshold accepts 95 % of the known validation signals; unknown signals are met in
the test alone.

Seeds 0 to 2 were used while the sets and settings were chosen, so the default ones begin at 3.
Finished (data, loss, seed) are kept in the results file and not run again. Run:
  python benchmarks/openset.py [--data synth rtl433] [--losses BalancedSoftmax] [--seeds 3 4 5] [--out benchmarks/openset.json]
"""
import argparse, json, os, platform, time, warnings
from pathlib import Path

warnings.simplefilter('ignore')
import pandas as pd
import torch

from lt_signals.core.random import setup_seed
from lt_signals.core.files import write_atomically
from lt_signals.core.files import shared_data
from lt_signals.io.signal_store import SignalStore
from lt_signals.io.readers import open_signals
from lt_signals.data.dataloaders import build_dataloaders
from lt_signals.core.counts import class_groups
from lt_signals.data.splits import stratified_split
from lt_signals.synth.emitters import synth_emitters
from lt_signals.data.unknown import open_split
from lt_signals.evaluation.calibration import temperature_effect
from lt_signals.evaluation.predictions import Predictions
from lt_signals.evaluation.evidence import collect_evidence, open_scores, reference_evidence
from lt_signals.evaluation.rejection import Rejector, evaluate_rejection
from lt_signals.training.classifier_stages import Stage1
from lt_signals.training.learner import classifier_learner
from lt_signals.training.fit import fit_stages

KEPT = ['auroc', 'aupr_in', 'aupr_out', 'fpr95_in', 'fpr95_out', 'oscr', 'accuracy', 'macro_f1', 'unknown_rejected', 'false_rejection', 'by_openness']
REAL = [{'RandomTimeShift': dict(max_shift=256, p=.5, circular=True)}, {'CarrierOffset': dict(max_offset=.44, p=.8)},
        {'PhaseRotation': {}}, {'IQSwap': dict(p=.5)}, {'RandomAmplitude': dict(scale_range=(-6, 6), db=True, p=1.)},
        {'RandomNoiseSNR': dict(snr_range=(5, 30), p=.5)}]


def synth(seed):
    "Known and unknown sides, loaders, name of the network, its training."
    made = synth_emitters(36, 400, 50., n_valid=20, n_test=40, seed=seed)
    split = open_split(SignalStore(made.source, 512, 'rms'), n_unknown=12, seed=seed)
    dls = build_dataloaders(split.known, batch_size=64, augment=['PhaseRotation'], seed=seed, device=DEVICE, in_memory=True)
    return split, dls, 'ConvNetADSB', dict(epochs=20, lr=2e-3)


def rtl433(seed):
    "As `synth`, for the real recordings: half the files of a class train, a fifth validate, the others test."
    folder = shared_data('rtl433')
    if folder is None: raise SystemExit('the recordings are not here: set LTS_DATA, or run with --data synth')
    split = open_split(open_signals(folder, sample_rate=250e3, window=4096, hop=4096, range_db=5), how='scarce', seed=seed)
    file = split.known.meta['capture'].to_numpy()
    parts = stratified_split(split.known.labels, (.5, .2, .3), groups=file, seed=seed, classes=split.known.classes)
    dls = build_dataloaders(split.known, split=parts, batch_size=64, augment=REAL, seed=seed, device=DEVICE, in_memory=True)
    return split, dls, 'SpectrumEnvelopeNet', dict(epochs=8, lr=2e-3, weight_decay=.02)


def run_seed(data, loss, seed):
    "Train once; a record for every score and variant, and one of the calibration."
    split, dls, net, settings = globals()[data](seed)
    setup_seed(seed)
    learn = classifier_learner(dls, net, loss)
    learn.model.to(DEVICE)
    t = time.perf_counter()
    with learn.no_bar(), learn.no_logging(): fit_stages(learn, [Stage1(**settings)], seed=seed)
    facts = dict(data=data, loss=loss, seed=seed, train_s=round(time.perf_counter() - t, 1), **split.facts())
    known, valid = reference_evidence(learn, dls), collect_evidence(learn, dls.valid)
    test, unknown = (collect_evidence(learn, dl) for dl in (dls.test, dls.valid.new(split.unknown)))
    counts = [int(n) for n in dls.class_counts]
    heat = temperature_effect(*(Predictions(e.logits, e.labels) for e in (valid, test)), class_groups(counts))
    confidence = float((unknown.logits/heat['temperature']).softmax(1).amax(1).mean())
    yield dict(facts, score='calibration', class_counts=counts, **heat, confidence_on_unknown=confidence)
    variants = dict(plain=(0., 'none'), **{'class': (0., 'class')})
    if loss == 'CrossEntropy': variants |= {'prior': (1., 'none'), 'prior + class': (1., 'class')}
    for score in open_scores.where(needs=None):
        for name, (tau, units) in variants.items():
            t = time.perf_counter()
            r = Rejector(score, tau=tau, standardize=units).fit(known, valid, counts)
            res = evaluate_rejection(r, test, counts, unknown, split)
            yield dict(data=data, loss=loss, seed=seed, score=score, variant=name, seconds=round(time.perf_counter() - t, 2),
                       **{k: res[k] for k in KEPT})


def table(records):
    "Means over the seeds, percent."
    rows = [dict(r, **{f'rejected {k}': v for k, v in r['false_rejection'].items()}) for r in records if r['score'] != 'calibration']
    cols = ['auroc', 'fpr95_in', 'oscr', 'macro_f1', 'unknown_rejected', 'rejected all', 'rejected many', 'rejected medium', 'rejected few']
    df = pd.DataFrame(rows).groupby(['data', 'loss', 'variant', 'score'])[cols].mean()*100
    return df.assign(tail_over_head=df['rejected few']/df['rejected many']).round(2)


def main():
    global DEVICE
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('--data', nargs='+', default=['synth', 'rtl433'], choices=['synth', 'rtl433'])
    p.add_argument('--losses', nargs='+', default=['BalancedSoftmax'], help='names of `losses`')
    p.add_argument('--seeds', nargs='+', type=int, default=[3, 4, 5])
    p.add_argument('--out', default=str(Path(__file__).with_suffix('.json')))
    p.add_argument('--device', default='cuda' if torch.cuda.is_available() else 'cpu')
    p.add_argument('--threads', type=int, default=os.cpu_count())
    args = p.parse_args()
    DEVICE, out = args.device, Path(args.out)
    torch.set_num_threads(args.threads)
    name = torch.cuda.get_device_name() if DEVICE.startswith('cuda') else f'{platform.machine()} CPU, {args.threads} thread(s)'
    records = json.loads(out.read_text()) if out.exists() else []
    for data in args.data:
        for loss in args.losses:
            for seed in args.seeds:
                if any((r['data'], r['loss'], r['seed']) == (data, loss, seed) for r in records): continue
                new = [dict(r, device=name, torch=torch.__version__) for r in run_seed(data, loss, seed)]
                records += new # a seed is kept when all its scores are there
                write_atomically(out, '[' + ',\n'.join(json.dumps(r, ensure_ascii=False) for r in records) + ']\n')
                print(f'{data} {loss} seed {seed}: trained in {new[0]["train_s"]} s', flush=True)
    if records: print(table(records).to_string())


if __name__ == '__main__': main()
