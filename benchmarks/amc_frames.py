"""The frames of `amc.py`: endless batches for training, and the tests, of this package's generator and of one that shares nothing with it.

SNR is the power of the signal over that of the noise in the whole sampled band (`band`), unless `in_band` is said. Tests at equal in-band SNR have
8 samples a symbol and a roll-off of .35: the density of the noise is the same for all modulations of a test, so that noise in a quarter of the
band has a quarter of the power.
"""
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from lt_signals.core.random import seed_stream
from lt_signals.io.rml2018 import digital_classes, rml2018_classes
from lt_signals.synth.channel import awgn_channel, Channel, field_channel
from lt_signals.synth.frame_sets import synth_modulations
from lt_signals.synth.frames import synth_frames
from lt_signals.synth.modulations import modulations
from lt_signals.synth.snr import convert_snr
from lt_signals.synth.streams import modulation_stream

FOREIGN = Path(__file__).parents[1]/'tests'/'foreign.py'
SPS, ROLLOFF = 8., .35
DRAWN = dict(timing=(0., 1.), phase=(-np.pi, np.pi), carrier=(-.005, .005), bandwidth=(.035, .035), am_index=(.75, .75), fm_index=(2.5, 2.5))
SHARES, LEVELS = (1., .5, .25), (10., 20.)  # parts of the band that noise fills; in-band SNR, dB
TEST_SEED = 1000  # of the tests that are the same for every seed of training


class Set(NamedTuple):
    "What is told apart, and at which SNRs."
    classes: list
    snrs: list


SETS = {'24 modulations': Set(rml2018_classes, [float(s) for s in range(-20, 31, 2)]),
        '17 digital': Set(digital_classes, [float(s) for s in range(-20, 31, 2)]),
        'QAM': Set(['16QAM', '32QAM', '64QAM', '128QAM', '256QAM'], [float(s) for s in range(0, 31, 2)]),
        'toy': Set(['BPSK', 'QPSK', '16QAM', 'GMSK'], [0., 10., 20.])}
CHANNELS = dict(field=field_channel, full=Channel, awgn=lambda: awgn_channel(SPS, ROLLOFF, **DRAWN))


def foreign():
    "The other generator, `tests/foreign.py`, as a module."
    spec = spec_from_file_location('foreign', FOREIGN)
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Part(NamedTuple):
    "Frames to be scored."
    x: torch.Tensor  # float32 (n, 2, length)
    modulation: torch.Tensor  # Number of the class, int64 (n,)
    snr_db: torch.Tensor  # Of the whole band, float32 (n,)


class Endless:
    "Batches of frames that never come again; the k-th is the same whenever it is asked for."
    at_once = 3072  # Frames that are computed together, as they are made class by class
    def __init__(self, store, batch_size):
        self.source, self.size, self.chunk = store.source, batch_size, None
        self.per = max(self.at_once//batch_size, 1)

    def __call__(self, k):
        "Frames, modulations and SNR classes of a batch."
        c, i = divmod(k, self.per)
        if self.chunk is None or self.chunk[0] != c: self.chunk = c, *self.make(c)
        at = slice(i*self.size, (i + 1)*self.size)
        return tuple(o[at] for o in self.chunk[1:])

    def make(self, c):
        n, levels = self.per*self.size, len(self.source.snrs)
        number = c*n + seed_stream(self.source.seed, 'order', c).permutation(n)
        cell = torch.from_numpy(number % (levels*len(self.source.classes)))
        device = self.source.device
        return self.source.make(0, number), (cell//levels).to(device), (cell % levels).to(device)


class Finite:
    "Batches of a set of frames, in another order in each pass."
    def __init__(self, part, snrs, batch_size, seed):
        self.part, self.size, self.seed = part, batch_size, seed
        self.snr = torch.from_numpy(np.searchsorted(snrs, part.snr_db.cpu().numpy() - .1)).to(part.x.device)
        self.per, self.order = max(len(part.x)//batch_size, 1), (None, None)

    def __call__(self, k):
        e, i = divmod(k, self.per)
        if self.order[0] != e: self.order = e, torch.from_numpy(seed_stream(self.seed, 'order', e).permutation(len(self.part.x)))
        at = self.order[1][i*self.size:(i + 1)*self.size].to(self.part.x.device)
        return self.part.x[at], self.part.modulation[at], self.snr[at]


def _rows(source, part, n):
    "The fixed frames of validation (1) or test (2)."
    number = np.arange(n*len(source.classes)*len(source.snrs))
    cell = number % (len(source.classes)*len(source.snrs))
    x = torch.cat([source.make(part, i) for i in np.array_split(number, len(number)//3072 + 1)])
    return Part(x, torch.from_numpy(cell//len(source.snrs)), torch.from_numpy(source.snrs[cell % len(source.snrs)]))


def endless(data, channel, length, n_valid, n_test, batch_size, seed, device):
    "Batches for training, validation and test of a stream."
    d = SETS[data]
    store = modulation_stream(d.classes, d.snrs, (1, n_valid, n_test), length, CHANNELS[channel](), seed=seed, device=device)
    return Endless(store, batch_size), _rows(store.source, 1, n_valid), _rows(store.source, 2, n_test)


def finite(data, channel, length, n_per, batch_size, seed, device):
    "The same of `n_per` frames of each modulation at each SNR: of ten, eight train, one validates, one tests."
    d = SETS[data]
    store = synth_modulations(d.classes, d.snrs, n_per, length, CHANNELS[channel](), seed=seed, device=device)
    of = np.arange(len(store)) % n_per*10//n_per
    x, y, snr = store.take(np.arange(len(store))).as_subclass(torch.Tensor), torch.from_numpy(store.labels).long(), torch.tensor(store.meta.snr_db.to_numpy())
    train, valid, test = (Part(x[i].to(device), y[i].to(device if k == 0 else 'cpu'), snr[i].float())
                          for k, i in enumerate(torch.from_numpy(o) for o in (of < 8, of == 8, of == 9)))
    return Finite(train, d.snrs, batch_size, seed), valid, test


def in_noise(data, length, n, least=0.):
    "Frames in white noise alone, at each SNR from `least` dB on: what `ml_bound` speaks of."
    d = SETS[data]
    made = [(c, s, synth_frames(name, s, 0, n, length, CHANNELS['awgn'](), seed=TEST_SEED)[0])
            for c, name in enumerate(d.classes) for s in d.snrs if s >= least]
    return _joined(made)


def limited(data, length, n, source, share, level):
    "Frames of a source ('own' or 'foreign') whose noise fills a share of the band, at an in-band SNR of `level` dB."
    names, snr = SETS[data].classes, float(convert_snr(level, 'in_band', 'band', SPS, ROLLOFF, share))
    if source == 'own':
        channel = awgn_channel(SPS, ROLLOFF, noise_share=(share, share), **DRAWN)
        return _joined([(c, snr, synth_frames(k, snr, 0, n, length, channel, seed=TEST_SEED)[0]) for c, k in enumerate(names)])
    made, other = [], foreign()
    for c, k in enumerate(names):
        rng = seed_stream(TEST_SEED, 'foreign', k, int(100*share), int(level))
        z = np.stack([other.received(k, snr, length, share, rng.uniform(-.005, .005), rng, sps=SPS, a=ROLLOFF) for _ in range(n)])
        made.append((c, snr, torch.from_numpy(np.stack([z.real, z.imag], 1)).float()))
    return _joined(made)


def _joined(made):
    "One part of (class, SNR, frames)."
    n = [len(x) for *_, x in made]
    return Part(torch.cat([x for *_, x in made]), torch.repeat_interleave(torch.tensor([c for c, *_ in made]), torch.tensor(n)),
                torch.repeat_interleave(torch.tensor([float(s) for _, s, _ in made]), torch.tensor(n)))


def linear(classes):
    "The numbers of the linear modulations among some."
    return [i for i, c in enumerate(classes) if modulations.info[c]['kind'] == 'linear']
