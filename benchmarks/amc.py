"""Networks for modulation and SNR, trained to the end on an endless stream: accuracy beside the limit, on frames of strangers, and how it grew.

24 modulations of 1,024 samples through `field_channel` (drawn: 2.5 to 16 samples a symbol, roll-off, timing, clock, carrier, phase, fading, Doppler,
neighbours, colour and width of the noise, the receiver's filter and imbalance), at -20 to 30 dB over the whole band. No frame comes twice, and all networks see the
same ones in the same order. Optimiser (AdamW), rate, schedule, batches and heads are the same for all; the rate rises over a fiftieth of the budget
and falls to 0 on half a cosine over the rest, whatever number of steps that is. No epoch is chosen: the last weights are scored.

A budget is `--minutes` of processor time of the steps (forward, backward, optimiser, all threads together; making the frames, which costs every network
the same and which a set on disk would not cost, is timed apart) or `--epochs`, passes of `--epoch_frames` new frames. `--finite N` is a set of N frames
of each modulation at each SNR instead, 80/10/10 %, with passes over its training part: the protocol of the joint accuracy with `--data '17 digital'`.

A row: accuracy of modulation, SNR and both, by SNR; recall by modulation and SNR; error of the SNR in dB by modulation; calibration error before
and after a temperature fitted on validation; parameters, frames a second, the learning curve on validation; accuracy in white noise alone (`noise`,
also among linear modulations only, as `ml_bound` has it); and at equal in-band SNR (`strangers`): own frames and those of `tests/foreign.py`, with noise in
the whole band, half, a quarter. `right` are the frames of the test that are right, one bit each, for paired comparisons.

A run that was killed goes on from its last minute; finished rows are not run again. Weights are kept in --work. Run:
  python benchmarks/amc.py --minutes 20 --seeds 0 1 2                             every network, 20 minutes each
  python benchmarks/amc.py --minutes 120 --models A B C                           those that lead
  python benchmarks/amc.py --epochs 12 --seeds 0 1 2                              equal epochs
  python benchmarks/amc.py --data QAM --minutes 20 --models A                     16- to 256-QAM by themselves
  python benchmarks/amc.py --snr_head regression ordinal --minutes 20 --models A  other heads for the SNR
  python benchmarks/amc.py --data '17 digital' --channel full --finite 60 --epochs 30 --models resnet18 A   the joint accuracy
  python benchmarks/amc.py --small                                                a toy, half a minute
On RML2016.10a or RML2018.01A themselves, which were not at hand, the same networks by the command of the package:
  lts_train task=amc data.path=RML2018.h5 model.name=MCLDNN amc.tasks=[modulation] training.lr=1e-3 data.batch_size=400 data.val_ratio=.2 data.test_ratio=.2
  lts_train task=amc data.path=RML2016.10a_dict.pkl model.name=MCLDNN amc.tasks=[modulation] training.lr=1e-3 data.batch_size=400 data.val_ratio=.2 data.test_ratio=.2
"""
import argparse, base64, math, os, re, time, warnings
from pathlib import Path

os.environ.setdefault('OMP_NUM_THREADS', '1')
warnings.simplefilter('ignore')
import numpy as np
import torch
from torch import nn

from lt_signals.core.device import evaluating
from lt_signals.core.files import atomic_path
from lt_signals.core.random import setup_seed
from lt_signals.core.rows import machine_name, row_frame, Rows
from lt_signals.evaluation.calibration import calibration_bins, fit_temperature
from lt_signals.evaluation.multitask import AMCAnalyzer
from lt_signals.evaluation.predictions import Predictions
from lt_signals.evaluation.significance import compare_methods, comparison_text
from lt_signals.losses.multitask import MultiTaskLoss
from lt_signals.models.layers import count_parameters
from lt_signals.models.multitask import create_multitask
from amc_frames import endless, finite, in_noise, LEVELS, limited, linear, Part, SETS, SHARES

OPTIONS = {'resnet18': dict(image_size=64), 'ResNet1D': dict(depth=3, width=32)}
MODELS = ['ReceiverNet', 'CGDNet', 'GRU2', 'LSTM2', 'MCLDNN', 'PETCGDNN', 'MoEAMC', 'ResNet1D', 'resnet18', 'DualViewNet']
SNR_HEADS = dict(distance='DistancePenalizedSNR', ordinal='OrdinalSNR', classes='CrossEntropy', regression=None)
TASKS = 'modulation', 'snr'
MARKS = .5, 1, 2, 5, 10, 20, 40, 60, 90, 120  # minutes or epochs at which the learning curve is taken


class GaussianSNR(nn.Module):
    "Regression of the SNR: negative log-likelihood of a normal distribution whose mean and spread are the two outputs."
    def __init__(self, values):
        super().__init__()
        v = torch.as_tensor(values, dtype=torch.float32)
        self.register_buffer('values', v, persistent=False)
        self.centre, self.scale = float(v.mean()), float(v.std())

    def of(self, z):
        "Mean and standard deviation in dB."
        return self.centre + self.scale*z[:, 0], self.scale*z[:, 1].clamp(-6, 3).exp()

    def forward(self, z, target):
        mean, std = self.of(z.float())
        return (((self.values[target] - mean)/std).square()/2 + (std/self.scale).log()).mean()

    def on_grid(self, z):
        "Logarithms of the mass nearest to each value, so that all scores of classes are defined."
        mean, std = self.of(z.double())
        edges = (self.values[1:] + self.values[:-1]).double()/2
        below = torch.special.ndtr((edges - mean[:, None])/std[:, None])
        ends = torch.cat([torch.zeros_like(below[:, :1]), below, torch.ones_like(below[:, :1])], 1)
        return ends.diff(dim=1).clamp_min(1e-12).log().float()


class Amc(nn.Module):
    "A network with its losses."
    def __init__(self, name, data, tasks, snr_head):
        super().__init__()
        d = SETS[data]
        sizes = dict(modulation=len(d.classes), snr=2 if snr_head == 'regression' else len(d.snrs))
        self.net = create_multitask(name, {t: sizes[t] for t in tasks}, dropout_rate=0., **OPTIONS.get(name, {}))
        kind, values = SNR_HEADS[snr_head], dict(snr_values=d.snrs)
        snr = GaussianSNR(d.snrs) if kind is None else dict(name=kind, options=values if kind.endswith('SNR') else {})
        losses = dict(modulation='CrossEntropy', snr=snr)
        self.loss = MultiTaskLoss({t: losses[t] for t in tasks}, 'uncertainty' if len(tasks) > 1 else 'fixed')
        self.grid = snr.on_grid if kind is None else None

    @property
    def device(self): return next(self.parameters()).device

    def step_loss(self, x, **targets): return self.loss(self.net(x), *(targets[t] for t in self.loss.tasks))

    def logits(self, x, size=256):
        "Logits of frames by task, on the CPU."
        with evaluating(self.net):
            out = [{t: z.cpu() for t, z in self.net(b.to(self.device)).items()} for b in x.split(size)]
        res = {t: torch.cat([o[t] for o in out]).float() for t in out[0]}
        if self.grid and 'snr' in res: res['snr'] = self.grid(res['snr'])
        return res


def clock(device):
    "Seconds: of the processor, of all threads; on a GPU of the wall, when it is done."
    if device.type != 'cuda': return time.process_time()
    torch.cuda.synchronize(device)
    return time.perf_counter()


def rate_at(share, warm=.02):
    "Factor of the rate at a share of the budget: up, then half a cosine down to 0."
    return min((share + 1e-3)/warm, 1.) if share < warm else .5*(1 + math.cos(math.pi*min((share - warm)/(1 - warm), 1.)))


class Run:
    "One training, which can be left at any step and gone on with."
    def __init__(self, model, batches, args, file):
        self.model, self.batches, self.args, self.file = model, batches, args, file
        own = [p for p in model.net.parameters() if p.ndim > 1]
        rest = [p for p in model.parameters() if not any(p is o for o in own)]
        self.opt = torch.optim.AdamW([dict(params=own, weight_decay=args.weight_decay), dict(params=rest, weight_decay=0.)], lr=args.lr, fused=True)
        self.step, self.spent, self.making, self.curve = 0, 0., 0., []
        if file.exists(): self.load()

    def save(self):
        state = dict(model=self.model.state_dict(), opt=self.opt.state_dict(), step=self.step, spent=self.spent, making=self.making, curve=self.curve)
        with atomic_path(self.file) as part: torch.save(state, part)

    def load(self):
        state = torch.load(self.file, map_location=self.model.device, weights_only=True)
        self.model.load_state_dict(state['model'])
        self.opt.load_state_dict(state['opt'])
        self.step, self.spent, self.making, self.curve = (state[k] for k in ('step', 'spent', 'making', 'curve'))

    @property
    def frames(self): return self.step*self.batches.size

    @property
    def done(self):
        "In minutes or epochs."
        return self.spent/60 if self.args.minutes else self.frames/self.args.epoch_frames

    @property
    def limit(self): return self.args.minutes or self.args.epochs

    def train(self, look):
        "Train until the budget is spent; `look` scores the network as it is for the learning curve."
        marks, saved = [m for m in MARKS if m < self.limit] + [self.limit], self.spent
        while self.done < self.limit:
            self.one_step()
            while len(self.curve) < len(marks) and self.done >= marks[len(self.curve)]:
                self.curve.append(dict(at=marks[len(self.curve)], seconds=round(self.spent, 1), frames=self.frames, **look()))
                saved = -math.inf
            if self.spent - saved > self.args.keep:
                self.save()
                saved = self.spent
        self.save()

    def one_step(self):
        began = clock(self.model.device)
        x, modulation, snr = self.batches(self.step)
        made = clock(self.model.device)
        torch.manual_seed((self.args.seed << 32) + self.step)  # what is dropped depends on the step alone
        self.model.train()
        for g in self.opt.param_groups: g['lr'] = self.args.lr*rate_at(self.done/self.limit)
        self.opt.zero_grad(set_to_none=True)
        loss = self.model.step_loss(x, modulation=modulation, snr=snr)
        if not loss.isfinite(): raise SystemExit(f'the loss is {loss.item()} at step {self.step}')
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.)
        self.opt.step()
        self.step += 1
        self.making += made - began
        self.spent += clock(self.model.device) - made


def analysis(model, part, data):
    "All scores of a part, and the logits."
    z, snrs = model.logits(part.x), torch.tensor(SETS[data].snrs)
    level = (part.snr_db[:, None] - snrs).abs().argmin(1)
    truth = dict(modulation=part.modulation, snr=level)
    return AMCAnalyzer(SETS[data].classes, SETS[data].snrs).analyze(Predictions(z, {t: truth[t] for t in z}), part.snr_db.numpy()), z, truth


def glance(model, part, data):
    "What the learning curve shows."
    res, *_ = analysis(model, part, data)
    return {**{k: v and round(v, 4) for k, v in res['accuracy'].items()}, 'mae_db': res['snr'] and round(res['snr']['mae_db'], 3)}


def rounded(x, n=4):
    "Nested numbers with a few digits."
    if isinstance(x, dict): return {k: rounded(v, n) for k, v in x.items()}
    if isinstance(x, (list, tuple)): return [rounded(v, n) for v in x]
    return round(x, n) if isinstance(x, float) else x


def bits(right):
    "Which frames are right, as text: eight a byte, base64."
    return base64.b64encode(np.packbits(np.asarray(right, bool))).decode()


def calibration(model, valid, data, z, truth):
    "Calibration error of each task, as it is and with the temperature of validation."
    zv, tv = analysis(model, valid, data)[1:]
    res = {}
    for t in z:
        warm = fit_temperature(zv[t], tv[t], (.1, 10.))
        ece = [calibration_bins(truth[t].numpy(), (z[t]/w).softmax(1).numpy())['ece'] for w in (1., warm)]
        res[t] = dict(ece=ece[0], ece_calibrated=ece[1], temperature=warm)
    return res


def of_classes(part, right, n):
    "Share that is right of each class at each SNR: (SNRs, {class number: shares})."
    levels = part.snr_db.unique().tolist()
    share = [[float(right[(part.modulation == c) & (part.snr_db == s)].double().mean()) for s in levels] for c in n]
    return levels, dict(zip(n, share))


def in_white_noise(model, part, data):
    "Recall in noise alone, among all and among the linear modulations."
    z, names = model.logits(part.x)['modulation'], SETS[data].classes
    few = linear(names)
    levels, every = of_classes(part, z.argmax(1) == part.modulation, range(len(names)))
    among = torch.tensor(few)[z[:, few].argmax(1)] if few else part.modulation
    _, only = of_classes(part, among == part.modulation, few)
    return dict(snr_db=levels, recall={names[c]: v for c, v in every.items()}, linear={names[c]: v for c, v in only.items()})


def among_strangers(model, parts, data):
    "Accuracy on own and foreign frames with noise in a part of the band, and the error of the SNR."
    res = []
    for (source, share, level), part in parts.items():
        z = model.logits(part.x)
        right = z['modulation'].argmax(1) == part.modulation
        recall = of_classes(part, right, range(len(SETS[data].classes)))[1]
        row = dict(source=source, share=share, in_band_db=level, band_db=float(part.snr_db[0]), n=len(right), accuracy=float(right.double().mean()),
                   recall={SETS[data].classes[c]: v[0] for c, v in recall.items()})
        if 'snr' in z: row['mae_db'] = float((z['snr'].softmax(1) @ torch.tensor(SETS[data].snrs) - part.snr_db).abs().mean())
        res.append(row)
    return res


def scores(model, parts, data):
    "All that is kept of a trained network."
    res, z, truth = analysis(model, parts['test'], data)
    right = {t: z[t].argmax(1) == truth[t] for t in z}
    if len(right) > 1: right['combined'] = right['modulation'] & right['snr']
    own = dict(accuracy=res['accuracy'], by_snr=res['by_snr'], calibration=calibration(model, parts['valid'], data, z, truth),
               right={k: bits(v) for k, v in right.items()})
    if 'snr' in z:
        miss = {k: (f(z['snr']) - parts['test'].snr_db).abs() for k, f in of_snr(data).items()}
        names, y = SETS[data].classes, truth['modulation']
        own |= dict(mae_db=res['snr']['mae_db'], mae_db_expected=res['snr']['mae_db_expected'],
                    mae_by_modulation={k: {c: float(m[y == i].mean()) for i, c in enumerate(names)} for k, m in miss.items()})
    if 'modulation' in z:
        own |= dict(recall=dict(zip(res['classes'], res['modulation']['recall_by_snr'])), noise=in_white_noise(model, parts['noise'], data),
                    strangers=among_strangers(model, parts['strangers'], data))
    return rounded(own)


def of_snr(data):
    "How an SNR in dB is read from logits: the most probable, and the mean."
    values = torch.tensor(SETS[data].snrs)
    return dict(argmax=lambda z: values[z.argmax(1)], expected=lambda z: z.softmax(1) @ values)


def test_parts(args):
    "The tests that are the same for all networks and seeds; made once."
    d, n = args.data, args.n_strangers
    said = f'{d} {args.length} {n} {args.n_noise}'
    file = args.work/f'tests {re.sub(r"[^0-9a-zA-Z ]", "", said)}.pt'
    if not file.exists():
        made = {f'{s} {share} {level}': tuple(limited(d, args.length, n, s, share, level)) for s in ('own', 'foreign') for share in SHARES for level in LEVELS}
        with atomic_path(file) as part: torch.save(dict(noise=tuple(in_noise(d, args.length, args.n_noise)), strangers=made), part)
    state = torch.load(file, weights_only=True)
    keyed = {(k.split()[0], *map(float, k.split()[1:])): Part(*v) for k, v in state['strangers'].items()}
    return dict(noise=Part(*state['noise']), strangers=keyed)


def settings(args, tasks, snr_head):
    "What tells rows apart."
    if args.minutes: budget = f'{args.minutes:g} min'
    else: budget = f'{args.epochs:g} epochs of {args.epoch_frames:,} frames'
    more = dict(finite=args.finite) if args.finite else {}
    return dict(budget=budget, channel=args.channel, length=args.length, tasks=' + '.join(tasks), snr_head=snr_head, **more)


def run(name, tasks, snr_head, args, shared):
    "Train one network and score it; what a row keeps."
    make = dict(batch_size=args.batch_size, seed=args.seed, device=args.device)
    if args.finite: batches, valid, test = finite(args.data, args.channel, args.length, args.finite, **make)
    else: batches, valid, test = endless(args.data, args.channel, args.length, args.n_valid, args.n_test, **make)
    if args.finite: args.epoch_frames = len(batches.part.x)
    setup_seed(args.seed)
    model = Amc(name, args.data, tasks, snr_head).to(args.device)
    said = ' '.join(map(str, (args.data, name, args.seed, *settings(args, tasks, snr_head).values())))
    training = Run(model, batches, args, args.work/f'{re.sub(r"[^0-9a-zA-Z ]", "", said)}.pt')
    training.train(lambda: glance(model, valid, args.data))
    own = scores(model, dict(shared, valid=valid, test=test), args.data)
    return dict(scores=dict(own, curve=training.curve, frames_per_s=round(training.frames/training.spent, 1)), parameters=count_parameters(model.net.backbone),
                seconds=round(training.spent, 1), making_s=round(training.making, 1), frames=training.frames, n_test=len(test.x), weights=training.file.name)


def told(name, args, r):
    "A line on a finished row."
    a = ' '.join(f'{k} {100*v:5.1f}' for k, v in r['scores']['accuracy'].items() if v is not None)
    s = {(o['source'], o['share'], o['in_band_db']): o['accuracy'] for o in r['scores'].get('strangers', ())}
    drop = ' '.join(f'{k[0]} {k[1]:g} of the band at {k[2]:g} dB {100*v:.1f}' for k, v in s.items() if k[2] == 20.)
    return f'{args.data} seed {args.seed} {name:12} {r["parameters"]:>9,} parameters {r["frames"]:,} frames  {a}  {r["scores"]["frames_per_s"]:.0f} frames/s  {drop}'


def compared(rows, baseline=None):
    "Paired differences over the seeds, of the rows of a budget."
    f = row_frame(rows)
    if f.empty or f.seed.nunique() < 2: return ''
    f['combined'] = f.accuracy.map(lambda a: a['combined'] if a['combined'] is not None else a['modulation'] or a['snr'])
    wide = f.pivot_table(index='seed', columns='method', values='combined')
    return comparison_text(compare_methods(wide, baseline or wide.mean().idxmax())).to_string()


def parsed():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('--data', default='24 modulations', choices=SETS, help='what is told apart')
    p.add_argument('--models', nargs='+', default=MODELS)
    p.add_argument('--tasks', nargs='+', default=['modulation+snr'], help='modulation+snr, modulation, snr: each trains a network of its own')
    p.add_argument('--snr_head', nargs='+', default=['distance'], choices=SNR_HEADS, help='what learns the SNR: classes by three losses, or regression')
    p.add_argument('--seeds', nargs='+', type=int, default=[0])
    p.add_argument('--minutes', type=float, help='budget in minutes of processor time; 20 where no epochs are given')
    p.add_argument('--epochs', type=float, help='budget in passes instead')
    p.add_argument('--epoch_frames', type=int, default=24*26*64, help='new frames that make an epoch of the stream')
    p.add_argument('--finite', type=int, help='frames of each modulation at each SNR of a set that does not change; 10 or more')
    p.add_argument('--channel', default='field', choices=('field', 'full', 'awgn'))
    p.add_argument('--length', type=int, default=1024)
    p.add_argument('--n_valid', type=int, default=2, help='frames of each modulation at each SNR for the learning curve')
    p.add_argument('--n_test', type=int, default=12, help='and for the test')
    p.add_argument('--n_noise', type=int, default=12, help='and in noise alone, from 0 dB on')
    p.add_argument('--n_strangers', type=int, default=40, help='frames of each modulation in each test of strangers')
    p.add_argument('--lr', type=float, default=2e-3)
    p.add_argument('--weight_decay', type=float, default=.02)
    p.add_argument('--batch_size', type=int, default=64)
    p.add_argument('--keep', type=float, default=60., help='seconds of processor time between two checkpoints')
    p.add_argument('--work', type=Path, default=Path('experiments/amc'), help='folder of checkpoints and weights')
    p.add_argument('--out', default=str(Path(__file__).with_suffix('.json')))
    p.add_argument('--device', default='cuda' if torch.cuda.is_available() else 'cpu')
    p.add_argument('--threads', type=int, default=1)
    p.add_argument('--small', action='store_true', help='a toy: four modulations, 128 samples, seconds')
    args = p.parse_args()
    if args.small: args.data, args.length, args.n_test, args.n_noise, args.n_strangers = 'toy', 128, 8, 4, 8
    if args.small and not (args.minutes or args.epochs): args.minutes = .05
    if not (args.minutes or args.epochs): args.minutes = 20.
    if args.minutes and args.epochs: p.error('--minutes and --epochs: give one of them')
    if args.finite and args.finite < 10: p.error('--finite: 10 frames or more, of which 8 train')
    return args


def main():
    args = parsed()
    torch.set_num_threads(args.threads)
    rows, shared = Rows(args.out, device=machine_name(args.device)), test_parts(args)
    for args.seed in args.seeds:
        for name in args.models:
            for tasks in [tuple(t.split('+')) for t in args.tasks]:
                for head in args.snr_head:
                    if rows.find(args.data, name, args.seed, **settings(args, tasks, head)): continue
                    made = run(name, tasks, head, args, shared)
                    r = rows.add(args.data, name, args.seed, settings=settings(args, tasks, head), **made)
                    print(told(name, args, r), flush=True)
    one = settings(args, tuple(args.tasks[0].split('+')), args.snr_head[0])
    print(compared([r for r in rows if r['data'] == args.data and r.get('settings') == one]))


if __name__ == '__main__': main()
