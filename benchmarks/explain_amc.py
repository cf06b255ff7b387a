"""What networks for modulation decide by, and whether that holds from one architecture to the next.

Networks that `amc.py` has trained, by the files of its folder. Frames of six linear modulations in white noise at 10 and 20 dB, 8 samples a symbol with known
instants. Of each network: accuracy as elements are removed, the largest first, the smallest first, at random, and in the order of Grad-CAM, integrated gradients and
occlusion (PIS and areas with paired bootstrap intervals); of I/Q networks in time windows and, without maps, in bands of frequency, of networks of images in
pixels; the randomisation check; and how a map is spread over the period of a symbol: 1 at every phase says that the instants of the symbols do not matter.
A method that a network does not admit is left out. Windows and bands are told in samples and cycles a sample, and in seconds and hertz at --rate.

Run: python benchmarks/explain_amc.py experiments/amc/*.pt [--frames 16] [--small] [--out benchmarks/explain_amc.json]
"""
import argparse, os, time, warnings
from pathlib import Path

os.environ.setdefault('OMP_NUM_THREADS', '1')
warnings.simplefilter('ignore')
import numpy as np
import torch

from amc import Amc
from amc_frames import DRAWN, ROLLOFF, SETS, SPS
from lt_signals.core.errors import LTSError
from lt_signals.core.rows import machine_name, read_rows, Rows
from lt_signals.explain.attribution import attribute
from lt_signals.explain.measure import Probe
from lt_signals.explain.domains import seen_by
from lt_signals.explain.orderings import ORDERINGS, randomisation_check
from lt_signals.explain.scores import join_pis
from lt_signals.synth.channel import awgn_channel
from lt_signals.synth.frames import Frames

CLASSES, LEVELS, PARTS = ['BPSK', 'QPSK', '8PSK', '16QAM', '64QAM', '256QAM'], (10., 20.), 32
PERCENT = (5, 10, 20, 30, 50, 70, 100)
METHODS = 'gradcam', 'integrated_gradients', 'occlusion'


def signals(data, length, n):
    "Frames, numbers of their classes, and the instant of a symbol, in samples."
    names = [c for c in CLASSES if c in SETS[data].classes]
    channel = awgn_channel(SPS, ROLLOFF, **{**DRAWN, 'timing': (0., 0.)})
    x, y = [], []
    for c in names:
        for level in LEVELS:
            fr = Frames(c, level, 0, n, length, channel, seed=77)
            z = fr.noisy(fr.signal(), level)
            x.append(z*(2*z.square().mean((1, 2), keepdim=True)).rsqrt())
            y += [SETS[data].classes.index(c)]*n
    return torch.cat(x), torch.tensor(y), float(fr.symbol_times[0, 0]) % SPS


def measured(net, x, y, domain, orderings):
    "What the orders cost, and which of them the network does not admit."
    res, batches = {}, [*zip(x.split(64), y.split(64))]
    for name, (score, order) in orderings.items():
        try: res[name] = Probe(net, [order], PERCENT, domain, score, 'modulation').measure(batches, ['modulation'])
        except LTSError as e: print(f'  {name}: {e}')
    return join_pis(res)


def of_domain(net, x, y, domain, orderings):
    "Areas less that of the random order, the PIS, and bright against dim, with their intervals."
    pis = measured(net, x, y, domain, orderings)
    table = pis.table()
    table = table[table.f_nominal.isin([.05, .1, .2])]
    keep = ['order', 'f_nominal', 'f_actual', 'drop', 'pis_actual', 'pis_actual_low', 'pis_actual_high']
    return dict(areas=records(pis.areas('random')), pis=records(table[keep]), bright_less_dim=records(pis.compare('bright first', 'dim first')))


def records(t): return [{k: round(v, 4) if isinstance(v, float) else v for k, v in r.items()} for r in t.reset_index().to_dict('records')]


def over_symbol(net, x, instant):
    "Mean size of each map by the phase of a symbol, from its instant on; their mean is 1."
    if seen_by(net, x[:1]).ndim == 4: return {}
    res, period = {}, int(SPS)
    for m in METHODS:
        try: size = attribute(net, x, m, 'modulation').abs()
        except LTSError: continue
        folded = size[:, :size.shape[1]//period*period].reshape(len(x), -1, period).mean((0, 1))
        res[m] = [round(float(v), 4) for v in np.roll((folded/folded.mean().clamp_min(1e-12)).numpy(), -round(instant))]
    return res


def explained(net, data, length, n, rate):
    "All that a row keeps of a network."
    x, y, instant = signals(data, length, n)
    images = seen_by(net, x[:1]).ndim == 4
    plain = {k: ORDERINGS[k] for k in ('random', 'bright first', 'dim first')}
    domains = dict(pixels=(None, ORDERINGS)) if images else dict(windows=('time', ORDERINGS), bands=('bands', plain))
    scores = {k: of_domain(net, x, y, d, o) for k, (d, o) in domains.items()}
    scores['over_symbol'] = over_symbol(net, x, instant)
    scores['randomisation'] = checked(net, x[::max(len(x)//24, 1)])
    with torch.inference_mode(): right = net.eval()(x[:256])['modulation'].argmax(1) == y[:256]
    units = dict(window_samples=length/PARTS, window_s=length/PARTS/rate, band_cycles=1/PARTS, band_hz=rate/PARTS)
    return dict(scores, accuracy=float(right.double().mean()), n=len(x), **({} if images else units))


def checked(net, x):
    "Rank correlation of maps as layers are drawn anew: {method: {share: correlation}}."
    res = {}
    for m in ('intensity', *METHODS):
        try: res[m] = randomisation_check(net, x, [m], 'modulation', (0, .25, .5, 1))[m].round(3).to_dict()
        except LTSError: continue
    return {m: {str(k): v for k, v in r.items()} for m, r in res.items()}


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('files', nargs='+', type=Path, help='weights that amc.py has kept')
    p.add_argument('--rows', default=str(Path(__file__).with_name('amc.json')), help='the rows of amc.py, which say what the weights are of')
    p.add_argument('--frames', type=int, default=16, help='of each modulation at each SNR')
    p.add_argument('--rate', type=float, default=1e6, help='samples a second, for seconds and hertz')
    p.add_argument('--threads', type=int, default=1)
    p.add_argument('--small', action='store_true', help='two frames of each')
    p.add_argument('--out', default=str(Path(__file__).with_suffix('.json')))
    args = p.parse_args()
    torch.set_num_threads(args.threads)
    n, known = 2 if args.small else args.frames, {r['weights']: r for r in read_rows(args.rows)}
    rows = Rows(args.out, device=machine_name())
    for file in args.files:
        if file.name not in known: continue
        r, began = known[file.name], time.process_time()
        own = r['settings']
        if 'modulation' not in own['tasks'] or rows.find(r['data'], r['method'], r['seed'], budget=own['budget'], frames=n): continue
        model = Amc(r['method'], r['data'], tuple(own['tasks'].split(' + ')), own['snr_head'])
        model.load_state_dict(torch.load(file, weights_only=True, map_location='cpu')['model'])
        scores = explained(model.net, r['data'], own['length'], n, args.rate)
        rows.add(r['data'], r['method'], r['seed'], scores, dict(budget=own['budget'], frames=n), rate=args.rate, seconds=round(time.process_time() - began, 1))
        print(f'{r["method"]:12} seed {r["seed"]} {time.process_time() - began:.0f} s  accuracy {100*scores["accuracy"]:.1f}', flush=True)


if __name__ == '__main__': main()
