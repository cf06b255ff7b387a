"""The generator of the package beside one that shares nothing with it (`foreign.py`): the same moments, spectra and noise."""
import numpy as np
import pytest
import torch

import foreign
from lt_signals.synth.channel import awgn_channel
from lt_signals.synth.frames import synth_frames

NAMES = foreign.LINEAR + foreign.OTHERS
ANALOG = dict(bandwidth=(.035, .035), am_index=(.75, .75), fm_index=(2.5, 2.5))


def ours(name, n=1024, frames=128):
    x, _ = synth_frames(name, np.inf, 0, frames, n, awgn_channel(8., .35, timing=(0., 1.), phase=(-np.pi, np.pi), **ANALOG), 'none')
    return torch.complex(*x.unbind(1)).numpy()


def theirs(name, n=1024, frames=128):
    rng = np.random.default_rng(1)
    return np.stack([foreign.frame(name, n, rng=rng) for _ in range(frames)])


def moments(x):
    "What the phase does not change: how the power varies, and how far the frame is from circular."
    power = abs(x)**2
    return np.array([(power**2).mean(), (abs((x**2).mean(1))).mean(), (abs((x**4).mean(1))).mean(), (power**3).mean()])


@pytest.mark.parametrize('name', NAMES)
def test_moments_agree(name):
    a, b = moments(ours(name)), moments(theirs(name))
    assert np.allclose(a, b, rtol=.1, atol=.06), (name, a, b)


@pytest.mark.parametrize('name', ['QPSK', 'OQPSK', 'GMSK', 'FM', 'AM-DSB-SC', 'AM-SSB-SC'])
def test_spectra_agree(name):
    "Power in sixteen parts of the band, in dB, where there is any."
    def bands(x): return (abs(np.fft.fft(x*np.hanning(x.shape[1])))**2).mean(0).reshape(16, -1).sum(1)
    a, b = bands(ours(name)), bands(theirs(name))
    seen = b > 1e-3*b.sum()
    assert seen.sum() >= 2 and np.abs(10*np.log10(a[seen]/b[seen])).max() < 1, (name, a, b)


def test_noise_fills_the_band_as_said():
    rng = np.random.default_rng(0)
    x = np.stack([foreign.noise(1024, rng, .25) for _ in range(200)])
    p = (abs(np.fft.fft(x))**2).mean(0)/1024
    f = abs(np.fft.fftfreq(1024))
    assert abs((abs(x)**2).mean() - 1) < .03 and abs(p[f < .1].mean() - 4) < .2 and p[f > .16].mean() < .01
