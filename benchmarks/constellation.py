"""Frames per second of to_constellation against numpy.histogram2d (and scipy's gaussian_filter) one frame at a time,
against merely zero-filling the images, which is the floor, and against a training step of ResNet-18.

On a CPU there are two floors: torch.zeros, and zeros written to new memory of numpy, which comes in large pages where
the system has them and is several times faster. to_constellation uses that memory, so both shares are printed.

--small: two sizes beside fast_histogram, a frame at a time, and beside kernels of numba for the whole batch, in turns; rows in benchmarks/speed.json.
Both are peers of this script alone (pip install fast-histogram numba); what is not installed is left out, and said. The work is what they do as well as
ours, counting (`log=False`, no unit power), and then the images of the default. numba has two kernels for these: one passes over all pixels for their
levels, the other goes back to the points, with a table of levels.

Run: python benchmarks/constellation.py [--small] [--threads N]
"""
import argparse, math, os, platform, time

import numpy as np
import timm
import torch
from scipy.ndimage import gaussian_filter

from lt_signals.views.constellation import Constellation
from turns import one_thread, store, take_turns

LIMIT, SIGMA = 2.5, 1.


def make_frames(batch, length):
    "64-QAM at unit power, every frame with an SNR of its own from -20 to 30 dB."
    g = torch.Generator().manual_seed(0)
    x = (2*torch.randint(8, (batch, 2, length), generator=g) - 7)/42**.5
    noise = torch.randn(x.shape, generator=g)*2**-.5
    return x + noise*10**(-torch.linspace(-20, 30, batch)/20)[:, None, None]


def numpy_images(x, size, smooth):
    "What one would write at first, in one expression a frame."
    out = np.empty((len(x), 1, size, size), np.float32)
    for image, (i, q) in zip(out, x*(1/np.sqrt((x**2).sum(1).mean(1)))[:, None, None]):
        counts = np.histogram2d(q, i, bins=size, range=[[-LIMIT, LIMIT]]*2)[0][::-1]
        levels = np.log1p(counts)/math.log1p(x.shape[-1])
        image[0] = gaussian_filter(levels, smooth, mode='constant') if smooth else levels
    return out


def unit_power(x):
    "Frames of unit power."
    return x*(1/np.sqrt((x*x).sum(1).mean(1)))[:, None, None]


def fast_histogram_peer(images):
    "fast_histogram, a frame at a time: counts, or the images of the default."
    import fast_histogram

    def way(x, n):
        out = np.empty((len(x), 1, n, n), np.float32)
        for image, (i, q) in zip(out, unit_power(x) if images else x):
            image[0] = fast_histogram.histogram2d(q, i, bins=n, range=((-LIMIT, LIMIT),)*2)[::-1]
        if images:
            np.log1p(out, out=out)
            out /= np.float32(math.log1p(x.shape[-1]))
        return out
    return way


def numba_peer(images, table=False):
    "A kernel of numba for a batch: counts, or the images of the default, levels of all pixels or, by a table, of the points."
    import numba

    @numba.njit
    def kernel(x, n, images, levels, out):
        time, half, at = x.shape[2], np.float32(n/2), np.empty(x.shape[2], np.int32)
        norm = np.float32(math.log1p(time))
        for frame in range(len(x)):
            (i, q), pixels, scale, m = x[frame], out[frame].reshape(-1), np.float32(n/(2*LIMIT)), 0
            if images:
                power = np.float32(0)
                for t in range(time): power += i[t]*i[t] + q[t]*q[t]
                scale *= np.float32(1/np.sqrt(power/np.float32(time)))
            for t in range(time):
                a, b = i[t]*scale + half, q[t]*scale + half
                if a >= 0 and a < n and b >= 0 and b < n:
                    at[m] = (n - 1 - int(b))*n + int(a)
                    pixels[at[m]] += 1
                    m += 1
            if images and len(levels):
                for k in at[:m]:
                    if pixels[k] > 0: pixels[k] = -levels[int(pixels[k])]
                for k in at[:m]: pixels[k] = abs(pixels[k])
            elif images:
                for k in range(n*n):
                    if pixels[k] > 0: pixels[k] = np.log1p(pixels[k])/norm

    def way(x, n):
        time, out = x.shape[-1], np.zeros((len(x), 1, n, n), np.float32)
        levels = (np.log1p(np.arange(time + 1))/math.log1p(time)).astype(np.float32)
        kernel(x, n, images, levels if table else levels[:0], out)
        return out
    return way


def installed(peers):
    "The peers whose package is there: {name: function of frames and size}."
    found = {}
    for name, make in peers.items():
        try: found[name] = make()
        except ImportError as e: print(f'{name}: left out, {e.name} is not installed')
    return found


def small(batch=256, length=1024, rounds=15):
    "Rows: counts and images at 64 and 224 pixels, ours beside each peer that is installed."
    one_thread()
    frames = unit_power(make_frames(batch, length).numpy())
    x = torch.from_numpy(frames)
    counts = dict(unit_power=False, log=False, scale='none')
    works = {'counts': (counts, {'fast_histogram': lambda: fast_histogram_peer(False), 'numba': lambda: numba_peer(False)}),
             'images': ({}, {'fast_histogram': lambda: fast_histogram_peer(True), 'numba, all pixels': lambda: numba_peer(True),
                             'numba, points and table': lambda: numba_peer(True, True)})}
    for work, (options, makers) in works.items():
        peers = installed(makers)
        for n, fair, goal in ((64, 'fast_histogram', 1.2), (224, 'numba' if work == 'counts' else 'numba, points and table', 1.1)):
            m = Constellation(n, **options)
            for name, f in peers.items():
                differ = (np.abs(f(frames, n) - m(x).numpy()) > 1e-5).mean()
                assert differ < 1e-5, f'{name}: {differ:.1e} of the pixels differ'  # points on the edge of a bin
            ways = {'ours': lambda: m(x), **{k: lambda f=f: f(frames, n) for k, f in peers.items()}}
            store(f'constellation, {work} {n}×{n}', take_turns(ways, rounds), fair=fair, goal=goal, batch=batch, length=length)


def best_of(tasks, frames, rounds, sync):
    "Frames per second of each task, which does `frames` a call: the best of interleaved rounds."
    best = dict.fromkeys(tasks, 0.)
    for _ in range(rounds+1):  # the first round warms up
        for name, f in tasks.items():
            sync()
            t = time.perf_counter()
            f()
            sync()
            best[name] = max(best[name], frames/(time.perf_counter() - t))
    return best


def training_step(size, batch, device):
    "A function that trains a ResNet-18 on `batch` images of noise."
    model = timm.create_model('resnet18', in_chans=1, num_classes=24).to(device).train()
    opt = torch.optim.AdamW(model.parameters())
    x, y = torch.randn(batch, 1, size, size, device=device), torch.zeros(batch, dtype=torch.long, device=device)

    def step():
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == 'cuda'):
            loss = torch.nn.functional.cross_entropy(model(x), y)
        opt.zero_grad()
        loss.backward()
        opt.step()
    return step


def main(batch=256, size=224, length=1024, rounds=12, step_batch=8, threads=1):
    device = torch.device('cuda' if torch.cuda.is_available() else 'cpu')
    sync = torch.cuda.synchronize if device.type == 'cuda' else lambda: None
    gpu = f', {torch.cuda.get_device_name()}' if device.type == 'cuda' else ', no GPU'
    cores = torch.get_num_threads()
    print(f'{os.cpu_count()} CPUs ({platform.machine()}){gpu}, Python {platform.python_version()}, torch '
          f'{torch.__version__}, numpy {np.__version__}; torch threads: {threads} render, {cores} train')
    print(f'batches of {batch} frames of {length} points, images of {size}×{size}; best of {rounds} rounds\n')
    torch.set_num_threads(threads)  # numpy uses one thread, and new memory is what rendering waits for
    x = make_frames(batch, length)
    on, frames = x.to(device), x.numpy()
    sharp, smooth = Constellation(size), Constellation(size, smooth=SIGMA)
    for m, s in ((sharp, 0), (smooth, SIGMA)):
        assert np.allclose(m(on[::8]).cpu().numpy(), numpy_images(frames[::8], size, s), atol=1e-5)

    tasks = {'numpy': lambda: numpy_images(frames, size, 0), 'ours': lambda: sharp(on),
             'floor': lambda: torch.zeros(batch, 1, size, size, device=device),
             'large pages': lambda: np.empty((batch, 1, size, size), np.float32).fill(0),
             'numpy, smoothed': lambda: numpy_images(frames, size, SIGMA), 'ours, smoothed': lambda: smooth(on)}
    if device.type == 'cuda': tasks['large pages'] = tasks['floor']
    r = best_of(tasks, batch, rounds, sync)
    torch.set_num_threads(cores)
    big = 512 if device.type == 'cuda' else step_batch
    r.update(best_of({'step': training_step(size, big, device)}, big, max(2, rounds//3), sync))

    print(f'{"":44}{"frames/s":>12}{"x numpy":>10}{"of floor":>10}{"of large pages":>16}')
    for title, name, base in (('numpy.histogram2d, frame by frame', 'numpy', 'numpy'),
                              ('to_constellation', 'ours', 'numpy'),
                              ('zero-filling the images (floor)', 'floor', 'numpy'),
                              ('zero-filling in large pages', 'large pages', 'numpy'),
                              (f'numpy + gaussian_filter, sigma {SIGMA:g}', 'numpy, smoothed', 'numpy, smoothed'),
                              (f'to_constellation, smooth={SIGMA:g}', 'ours, smoothed', 'numpy, smoothed')):
        print(f'{title:44}{r[name]:12,.0f}{r[name]/r[base]:9.2f}x{r[name]/r["floor"]:10.0%}'
              f'{r[name]/r["large pages"]:16.0%}')
    share, smoothed = (r['step']/r[k] for k in ('ours', 'ours, smoothed'))
    print(f'{f"training step of ResNet-18, batch {big}":44}{r["step"]:12,.1f}')
    print(f'\nwithout smoothing {r["ours"]/r["numpy"]:.2f}x numpy (wanted 2.5x) and {r["ours"]/r["floor"]:.0%} of the '
          f'floor (wanted 40 %), {r["ours"]/r["large pages"]:.0%} of it in large pages; with smoothing {r["ours, smoothed"]/r["numpy, smoothed"]:.2f}x (wanted 1.5x)')
    print(f'rendering takes {share:.2%} of a training step, {smoothed:.2%} with smoothing (wanted at most 2 %)')
    if device.type == 'cuda':
        moved = 4*(size*size + 2*length)*r['ours']/1e9
        print(f'GPU: {r["ours"]:,.0f} frames/s (wanted 200,000): {moved:,.0f} GB/s of images and I/Q, '
              f'{r["ours"]/r["floor"]:.0%} of the rate at which its memory is filled')
    else: print('GPU: not measured, none at hand')


if __name__ == '__main__':
    a = argparse.ArgumentParser(description=__doc__)
    a.add_argument('--small', action='store_true', help='beside compiled peers, in turns')
    a.add_argument('--threads', type=int, default=1, help='threads of torch that render')
    a = a.parse_args()
    small() if a.small else main(threads=a.threads)
