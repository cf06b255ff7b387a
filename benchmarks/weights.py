"""The networks that ship in `lt_signals/weights`: how each was trained, and what it scores on signals that were made afterwards.

`train` runs the command of a network (below) and packs its run; `measure` asks the packed ones about synthetic signals of other seeds; `cards`
writes what was measured into their cards. What the encoder is worth on real recordings is measured by benchmarks/encoder.py. All training data are
synthetic. Run:
  python benchmarks/weights.py train modulations24 [--out runs]
  python benchmarks/weights.py measure [--names modulations24 detector iq_encoder] [--seed 977]
  python benchmarks/weights.py cards
"""
import argparse, shlex, subprocess, time, warnings
from pathlib import Path

warnings.simplefilter('ignore')
import numpy as np
import pandas as pd
import torch

import lt_signals
from lt_signals.core.device import evaluating
from lt_signals.core.rows import flat_row, machine_name, read_rows, Rows
from lt_signals.io.signal_store import SignalStore
from lt_signals.io.write import write_signals
from lt_signals.runs.finished import load_finished
from lt_signals.runs.prediction import detector_of
from lt_signals.runs.pretrained import load_pretrained, save_pretrained
from lt_signals.runs.recognizer import Recognizer
from lt_signals.synth.frame_sets import synth_modulations
from lt_signals.synth.remotes import synth_remotes
from lt_signals.synth.scenes import Scenes
from lt_signals.views.boxes import detection_scores, match_boxes
from lt_signals.views.crops import crop

# One line each, as in the shell; {out} is the folder of the runs
COMMANDS = dict(
    modulations24="""lts_train task=amc exp_name=modulations24 out_dir={out} amc.mods=[OOK,4ASK,8ASK,BPSK,QPSK,8PSK,16PSK,32PSK,16APSK,32APSK,64APSK,128APSK,16QAM,32QAM,64QAM,128QAM,256QAM,AM-SSB-WC,AM-SSB-SC,AM-DSB-WC,AM-DSB-SC,FM,GMSK,OQPSK]
        amc.snr_list=[-10,-6,-2,2,6,10,14,18,22,26,30] amc.n_per=120 amc.length=512 amc.awgn=false amc.dropout=.1 'model.options={{depth: 4, width: 16}}' data.batch_size=128 data.augment=[PhaseRotation] data.in_memory=true
        training.epochs=8 training.lr=3e-3 training.optimizer=AdamW training.weight_decay=.02 scheduler.name=cosine scheduler.warmup_epochs=.5 threads=1""",
    detector="""lts_train task=detection phase=direct exp_name=detector out_dir={out} detection.scenes=80 data.batch_size=32 training.epochs=12 scheduler.warmup_epochs=2 early_stopping.patience=0 visualization.enabled=false threads=1""",
    iq_encoder="""lts_train data.path={out}/remotes.h5 exp_name=iq_encoder out_dir={out} model.name=SpectrumEnvelopeNet 'model.options={{width: 24}}' data.val_ratio=.1 data.test_ratio=.05
        'data.augment=[{{CarrierOffset: {{max_offset: .44, p: .5}}}}, PhaseRotation, {{IQSwap: {{p: .3}}}}, {{RandomNoiseSNR: {{snr_range: [5, 30], p: .3}}}}]' training.epochs=5 training.lr=3e-3 training.weight_decay=.02
        stage2.enabled=false stage3.mode=temperature visualization.enabled=false threads=1""")
WEIGHTS = Path(lt_signals.__file__).parent/'weights'


def train(name, out):
    "Run the command of a network and pack what it gives."
    out.mkdir(parents=True, exist_ok=True)
    remotes = out/'remotes.h5'
    if name == 'iq_encoder' and not remotes.exists(): write_signals(synth_remotes(n_classes=240, n_per=40, seed=1), remotes)
    subprocess.run(shlex.split(COMMANDS[name].format(out=out)), check=True)
    pack(name, load_finished(out/f'{name}_latest', 'cpu'))


def pack(name, run):
    "Write a finished run where the library finds it, with what was measured on its card."
    if name == 'iq_encoder': first = 'Its data are `synth_remotes(n_classes=240, n_per=40, seed=1)`, 40 windows each of 240 synthetic transmitters.\n\n'
    else: first = ''
    save_pretrained(run, WEIGHTS/name, name, 'apache-2.0', (first + USES[name]()) or None)


def measured(name, file='weights.json'):
    "What was measured so far of a network: its rows; all of the file for None."
    f = Path(__file__).with_name(file)
    return [flat_row(r) for r in (read_rows(f) if f.exists() else []) if name in (None, r['method'])]


def use_of_modulations24():
    "Scores on frames of another seed, Markdown."
    if not (rows := measured('modulations24')): return ''
    m, = rows
    lines = ''.join(f"| {r['snr']:g} | {100*r['right']:.1f} | {100*r['snr_right']:.1f} | {r['error']:.2f} |\n" for r in m['by_snr'])
    return (f"On {m['n']:,} new frames (seed 977): modulation {100*m['accuracy']:.1f} %, SNR off by {m['mae_db']:.2f} dB on average.\n\n"
            f'| SNR, dB | modulation, % | SNR, % | SNR off by, dB |\n|---:|---:|---:|---:|\n{lines}')


def use_of_detector():
    "Recall and false alarms on scenes of another seed, Markdown."
    if not (m := measured('detector')): return ''
    rows = ''.join(f"| {r['way']} | {100*r['recall']:.1f} | {sum(r['false_per_second'].values()):.1f} |\n" for r in m)
    return (f"On {m[0]['scene_seconds']:.1f} s of new scenes with {m[0]['signals']} bursts from 3 to 30 dB (seed 977):\n\n"
            f'| | recall, % | false alarms per second |\n|---|---:|---:|\n{rows}')


def use_of_iq_encoder():
    "Five shots on new transmitters and on real recordings, Markdown."
    text, few = '', pd.DataFrame(measured(None, 'encoder.json')).rename(columns=dict(method='way'))
    for m in measured('iq_encoder'):
        text = (f"New synthetic transmitters, nearest mean of {m['shots']} windows each: {100*m['accuracy']:.1f} % of {m['transmitters']} "
                f"(chance {100/m['transmitters']:.1f} %).\n\n")
    if not len(few) or 'encoder' not in set(few.way): return text
    five = few[few.shots == 5].groupby('way', sort=False)[['window', 'file']]
    five = pd.concat({'mean': five.mean(), 'std': five.std(ddof=0)}, axis=1).swaplevel(axis=1)
    rows = ''.join(f"| {w} | {100*r['window', 'mean']:.1f} ± {100*r['window', 'std']:.1f} | {100*r['file', 'mean']:.1f} ± {100*r['file', 'std']:.1f} |\n"
                   for w, r in five.iterrows())
    seeds = few[few.shots == 5].pivot(index='seed', columns='way', values='window')
    gains = 100*(seeds['encoder'] - seeds['scratch'])
    by_seed = ', '.join(f'{g:+.1f}' for g in gains)
    won = 'It beats training from scratch' if gains.mean() > 0 else 'It does **not** beat training from scratch:'
    verdict = f'{won} by {gains.mean():.1f} points of windows on average (seed by seed: {by_seed}).'
    if five['window', 'mean'].idxmax() == 'features, mean': verdict += ' Hand-made features of the keying are better still on these devices.'
    return text + (f'Real recordings of 433 MHz devices, 5 windows of each of 25 classes, files held out, {few.seed.nunique()} seeds; recall by window and by '
                   f'file (`benchmarks/encoder.py`):\n\n| | windows, % | files, % |\n|---|---:|---:|\n{rows}\n{verdict}\n')


USES = dict(modulations24=use_of_modulations24, detector=use_of_detector, iq_encoder=use_of_iq_encoder)


def modulations24(r, seed):
    "Accuracy of modulation and SNR, and error of the SNR, at each SNR; recall of each modulation from 10 dB on."
    snrs = r.recipe.facts['snr_values']
    store = synth_modulations(r.classes, snrs, n_per=8, length=r.recipe.shape[1], seed=seed)
    said = r.predict(store)
    t = pd.DataFrame(dict(snr=store.meta.snr_db, mod=np.asarray(store.classes)[store.labels]))
    t = t.assign(right=said.modulation.to_numpy() == t['mod'], snr_right=said.snr_db.to_numpy() == t.snr, error=(said.snr_db.to_numpy() - t.snr).abs())
    by = t.groupby('snr')[['right', 'snr_right', 'error']].mean().round(4).reset_index()
    recall = t[t.snr >= 10].groupby('mod').right.mean().round(4)
    return dict(n=len(t), accuracy=round(t.right.mean(), 4), mae_db=round(t.error.mean(), 3), by_snr=by.to_dict('records'), recall_from_10_db=recall.to_dict())


def detector(r, seed, n=24):
    "Recall of the bursts of scenes by their SNR, and false alarms per second: of the search alone, and with the network behind it."
    scenes, d = Scenes(seed=seed), detector_of(r)
    finder, res, tables = d.options.finder(), [], []
    for i in range(n):
        iq, truth = scenes.take([i])
        spec = finder.spectrogram(iq, scenes.sample_rate)
        boxes = finder(spec)
        boxes['score'] = d.score(crop(spec, boxes, d.size[0], **d.crop)) if len(boxes) else []
        tables.append((boxes.assign(block=i), truth.assign(block=i)))
    found, truth = (pd.concat(t, ignore_index=True) for t in zip(*tables))
    seconds, signals = n*scenes.n_samples/scenes.sample_rate, truth[truth.kind == 'signal']
    for way, boxes in (('search alone', found), ('with the network', found[found.score >= d.threshold])):
        boxes = boxes.reset_index(drop=True)
        hit = np.isin(signals.index, match_boxes(boxes, truth, .3))
        bins = pd.cut(signals.snr_db, [3, 6, 10, 15, 20, 30], include_lowest=True).astype(str)
        s = detection_scores(boxes, truth, seconds, min_snr_db=3.)
        false = {k: round(s[f'{k}_per_s'], 2) for k in ('interferer', 'part', 'noise')}
        res.append(dict(way=way, recall=round(float(hit.mean()), 4), recall_by_snr=pd.Series(hit).groupby(bins.to_numpy()).mean().round(4).to_dict(),
                         signals_by_snr=bins.value_counts().to_dict(), false_per_second=false,
                         boxes=len(boxes), signals=len(signals), scene_seconds=round(seconds, 2), threshold=round(float(d.threshold), 4)))
    return res


def iq_encoder(r, seed, n=40, shots=5):
    "New synthetic transmitters from five windows each: nearest class mean of the features."
    store = synth_remotes(n_classes=n, n_per=15, length=r.recipe.shape[1], seed=seed)
    x = SignalStore(store.source, None, r.recipe.normalize).take(np.arange(len(store)))
    with evaluating(r.model): f = torch.nn.functional.normalize(torch.cat([r.model.backbone(b) for b in x.split(256)]), dim=-1)
    f = f.unflatten(0, (n, 15))
    means = torch.nn.functional.normalize(f[:, :shots].mean(1), dim=-1)
    right = (f[:, shots:]@means.T).argmax(-1) == torch.arange(n)[:, None]
    return dict(transmitters=n, shots=shots, accuracy=round(right.float().mean().item(), 4))


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    sub = p.add_subparsers(dest='do', required=True)
    t = sub.add_parser('train'); t.add_argument('name', choices=COMMANDS); t.add_argument('--out', type=Path, default=Path('runs'))
    m = sub.add_parser('measure')
    m.add_argument('--names', nargs='+', default=list(COMMANDS)); m.add_argument('--seed', type=int, default=977)
    m.add_argument('--out', type=Path, default=Path(__file__).with_suffix('.json'))
    sub.add_parser('cards')
    args = p.parse_args()
    torch.set_num_threads(1)
    if args.do == 'train': return train(args.name, args.out)
    if args.do == 'cards':
        for name in COMMANDS: pack(name, load_pretrained(name, 'cpu'))
        return
    rows = Rows(args.out, device=machine_name())
    for name in args.names:
        r, t = Recognizer.of(load_pretrained(name, 'cpu')), time.perf_counter()
        got = globals()[name](r, args.seed)
        for scores in got if isinstance(got, list) else [got]:
            settings = dict(way=scores.pop('way')) if 'way' in scores else {}
            rows.add('synth', name, args.seed, scores, settings, seconds=round(time.perf_counter() - t, 1))
            print(name, settings, scores, flush=True)


if __name__ == '__main__': main()
