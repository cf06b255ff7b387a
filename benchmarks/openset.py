"""Open-set scores on the same features: how well unknown transmitters are told from known ones, and whether the tail pays for it.

`synth`: 36 synthetic emitters of which 12, spread over the frequencies, are unknown; the others have 400 to 8 training messages; a fresh
set of emitters for every seed. `rtl433`: the real 433 MHz recordings; the kinds of device with one or two recordings are unknown, the others
are split by file (found through LTS_DATA or in ../shared/data). For every seed a network is trained with each loss and every score is
fitted to the same features: `plain` (one threshold); with the class prior taken out of the logits (`prior`, tau = 1, where the loss has not
done it); in units of the predicted class with a threshold for each group of classes (`class`); with both. The threshold is to accept 95 % of
a new known recording; unknown signals are met in the test alone.

As in OpenOOD v1.5 (arXiv:2306.09301) the unknown are *near* (transmitters of the same kind, whose classes were kept out) or *far* (modulated
frames of `synth_modulations`, 24 modulations at 20 dB), each against the same known test signals, three seeds. Settings of a score are those of its
paper, or, in variant `tuned`, chosen by AUROC on OTHER unknown signals: a third of the classes that were kept out, which
`auroc_unseen` of no row looks at, against known validation signals. AUPR is of the unknown as the positive side (aupr_out) and of the known (aupr_in); FPR95 (fpr95_in) is the share
of the unknown accepted where 95 % of the known are.

Seeds 0 to 2 were used while the sets and settings were chosen, so the default ones begin at 3.
Rows (data, loss, seed, score, variant, unknown) that are in the results file are not computed again; a seed is trained again only where rows
of it are missing. Run:
  python benchmarks/openset.py [--data synth rtl433] [--losses BalancedSoftmax] [--seeds 3 4 5] [--scores gen scale] [--out benchmarks/openset.json]
"""
import argparse, os, time, warnings
from dataclasses import replace
from pathlib import Path

warnings.simplefilter('ignore')
import numpy as np
import pandas as pd
import torch

from lt_signals.core.random import setup_seed
from lt_signals.core.files import shared_data
from lt_signals.core.rows import flat_row, machine_name, Rows
from lt_signals.io.signal_store import SignalStore
from lt_signals.io.readers import open_signals
from lt_signals.data.dataloaders import build_dataloaders
from lt_signals.core.counts import class_groups
from lt_signals.data.splits import stratified_split
from lt_signals.synth.emitters import synth_emitters
from lt_signals.synth.frame_sets import synth_modulations
from lt_signals.data.unknown import open_split
from lt_signals.evaluation.calibration import temperature_effect
from lt_signals.evaluation.predictions import Predictions
from lt_signals.core.errors import LTSError
from lt_signals.evaluation.evidence import collect_evidence, create_open_score, open_scores, reference_evidence
from lt_signals.evaluation.open_measures import ranking_scores
from lt_signals.evaluation.rejection import Rejector, evaluate_rejection
from lt_signals.training.classifier_stages import Stage1
from lt_signals.training.learner import classifier_learner
from lt_signals.training.fit import fit_stages

KEPT = ['auroc', 'aupr_in', 'aupr_out', 'fpr95_in', 'fpr95_out', 'oscr', 'accuracy', 'macro_f1', 'unknown_rejected', 'false_rejection', 'by_openness',
        'expected', 'recordings']
GRIDS = dict(knn=dict(k=[1, 3, 10, 30]), gen=dict(gamma=[.01, .1, .5, 1.]), ash=dict(pruned=[.65, .8, .9, .95]), scale=dict(pruned=[.65, .8, .9, .95]),
             nnguide=dict(k=[1, 3, 10, 30]), pooled_mahalanobis=dict(ridge=[.001, .01, .1, 1.]), react=dict(quantile=[.8, .9, .95, .99]),
             odin=dict(eps=[0., .0014, .005, .01]), vim=dict(dims=[4, 8, 16, 32]), weibull=dict(tail=[.1, .25, .5, 1.]))
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


def far(dls):
    "Signals of another world: modulated frames, cut as the known signals are."
    store = dls.store
    made = synth_modulations(snrs_db=[20.], n_per=20, length=store.sample_shape[1])
    return SignalStore(made.source, store.sample_shape[1], store.normalize)


def part_of(seen, rows):
    "Evidence of some of the signals (bool), for scores that look at the signals as well."
    dl = seen.dl.new(seen.dl.store.subset(seen.dl.indices[rows]))
    return replace(seen, features=seen.features[rows], logits=seen.logits[rows], labels=None if seen.labels is None else seen.labels[rows], dl=dl,
                   recording=None if seen.recording is None else seen.recording[rows])


def tuned(score, known, valid, other):
    "The setting of a score that tells other unknown signals best from known validation signals."
    (name, values), = GRIDS[score].items()
    def auroc(v):
        try: made = create_open_score(score, **{name: v}).fit(known, valid)
        except LTSError: return -1.  # more neighbours than signals
        s = torch.cat([made.score(e).double() for e in (valid, other)])
        return ranking_scores(s, np.r_[valid.labels, np.full(len(other), -1)])['auroc']
    return {name: max(values, key=auroc)}


def run_seed(data, loss, seed, scores, done):
    "Train once; a row for every score, variant and kind of unknown that is not `done`, and one of the calibration."
    split, dls, net, settings = globals()[data](seed)
    setup_seed(seed)
    learn = classifier_learner(dls, net, loss)
    learn.model.to(DEVICE)
    t = time.perf_counter()
    with learn.no_bar(), learn.no_logging(): fit_stages(learn, [Stage1(**settings)], seed=seed)
    facts = dict(train_s=round(time.perf_counter() - t, 1), **split.facts())
    known, valid = reference_evidence(learn, dls), collect_evidence(learn, dls.valid)
    stores = dict(near=split.unknown, far=far(dls))
    test = collect_evidence(learn, dls.test)
    unknown = {k: collect_evidence(learn, dls.valid.new(s)) for k, s in stores.items()}
    counts = [int(n) for n in dls.class_counts]
    heat = temperature_effect(*(Predictions(e.logits, e.labels) for e in (valid, test)), class_groups(counts))
    confidence = float((unknown['near'].logits/heat['temperature']).softmax(1).amax(1).mean())
    if ('calibration', '', 'near') not in done:
        yield dict(method='calibration', settings=dict(loss=loss), scores=dict(heat, confidence_on_unknown=confidence), class_counts=counts, **facts)
    others = np.isin(split.names, split.classes[::3])  # every third class that was kept out chooses the settings
    unseen = dict(near=part_of(unknown['near'], ~others), far=unknown['far'])
    variants = dict(plain=(0., 'none', False), **{'class': (0., 'class', True)})
    if loss == 'CrossEntropy': variants |= {'prior': (1., 'none', False), 'prior + class': (1., 'class', True)}
    for score in scores:
        for name, (tau, units, by_group) in (variants | ({'tuned': (0., 'none', False)} if score in GRIDS else {})).items():
            todo = [k for k in unseen if (score, name, k) not in done]
            if not todo: continue
            t = time.perf_counter()
            options = tuned(score, known, valid, part_of(unknown['near'], others)) if name == 'tuned' else {}
            r = Rejector(score, options, tau=tau, standardize=units, by_group=by_group).fit(known, valid, counts)
            for k in todo:
                whole = k == 'near' and name != 'tuned'  # all classes that were kept out, where none has chosen anything
                res = evaluate_rejection(r, test, counts, unknown[k] if whole else unseen[k], split if whole else None)
                same = evaluate_rejection(r, test, counts, unseen[k])['auroc'] if whole else res['auroc']  # of the classes that choose nothing
                yield dict(method=score, settings=dict(loss=loss, variant=name, unknown_kind=k), options=options, seconds=round(time.perf_counter() - t, 2),
                           scores=dict(auroc_unseen=same, **{n: res[n] for n in KEPT if n in res}))


def key(r):
    "Score, variant and kind of unknown signals of a row."
    return r['method'], r['settings'].get('variant', ''), r['settings'].get('unknown_kind', 'near')


def table(records):
    "Means over the seeds, percent."
    rows = [dict(r, **{f'rejected {k}': v for k, v in r['false_rejection'].items()},
                 **{f'share {k}': v for k, v in ((r.get('recordings') or {}).get('window_share') or {}).items()},
                 **{f'file {k}': (r.get('recordings') or {}).get(k) for k in ('auroc', 'unknown_rejected')})
            for r in map(flat_row, records) if r['method'] != 'calibration']
    df = pd.DataFrame(rows)
    cols = ['auroc', 'aupr_out', 'aupr_in', 'fpr95_in', 'oscr', 'macro_f1', 'unknown_rejected', 'rejected all', 'rejected many', 'rejected medium', 'rejected few',
            'share all', 'share many', 'share few', 'file auroc', 'file unknown_rejected']
    cols = [c for c in cols if c in df]
    df = df.groupby(['data', 'loss', 'variant', 'unknown_kind', 'method'])[cols].mean()*100
    return df.assign(tail_over_head=df['rejected few']/df['rejected many']).round(2)


def main():
    global DEVICE
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('--data', nargs='+', default=['synth', 'rtl433'], choices=['synth', 'rtl433'])
    p.add_argument('--losses', nargs='+', default=['BalancedSoftmax'], help='names of `losses`')
    p.add_argument('--seeds', nargs='+', type=int, default=[3, 4, 5])
    p.add_argument('--scores', nargs='+', help='names of `open_scores`; all when left out')
    p.add_argument('--out', default=str(Path(__file__).with_suffix('.json')))
    p.add_argument('--device', default='cuda' if torch.cuda.is_available() else 'cpu')
    p.add_argument('--threads', type=int, default=os.cpu_count())
    args = p.parse_args()
    DEVICE = args.device
    torch.set_num_threads(args.threads)
    rows = Rows(args.out, device=machine_name(DEVICE))
    scores = args.scores or list(open_scores.where(needs=None))
    for data in args.data:
        for loss in args.losses:
            for seed in args.seeds:
                done = {key(r) for r in rows if (r['data'], r['seed'], r['settings']['loss']) == (data, seed, loss)}
                names = {'plain', 'class'} | ({'prior', 'prior + class'} if loss == 'CrossEntropy' else set())
                wanted = {(s, v, k) for s in scores for v in names | ({'tuned'} if s in GRIDS else set()) for k in ('near', 'far')}
                if wanted <= done: continue
                for r in run_seed(data, loss, seed, scores, done): rows.add(data, seed=seed, **r)
                print(f'{data} {loss} seed {seed} is done', flush=True)
    if len(rows): print(table(rows).to_string())


if __name__ == '__main__': main()
