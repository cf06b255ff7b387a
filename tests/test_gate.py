"""The energy gate loses no transmission: clicks, a gain that is turned, steps of level; and what it keeps of the 220 recordings of rtl433."""
import numpy as np
import pytest
from scipy import signal

from lt_signals.core.files import shared_data
from lt_signals.io.gate import excerpt, find_windows
from lt_signals.io.pauses import measure_blocks, possible_gates
from lt_signals.io.recordings import open_recording, Recording

n = 2**17
t = np.arange(n)
rng = np.random.default_rng(0)
white = rng.normal(size=(n, 2))@[1, 1j]/2**.5
bursts = (t % 60_000 > 20_000) & (t % 60_000 < 38_000)


class Held(Recording):
    "Complex samples in memory."
    def __init__(self, z): self.x, self.n, self.name = np.stack([z.real, z.imag], 1).astype(np.float32), len(z), 'held'
    def read(self, start=0, count=None): return self.x[start:None if count is None else start + count]

def pulses(symbols, step, roll_off=.35):
    "Symbols through a root-raised-cosine filter, of power 1."
    s, x = np.zeros(n, complex), np.arange(-8*step, 8*step + 1)/step + 1e-9
    s[::step] = symbols
    shape = (np.sin(np.pi*x*(1 - roll_off)) + 4*roll_off*x*np.cos(np.pi*x*(1 + roll_off)))/(np.pi*x*(1 - (4*roll_off*x)**2))
    s = signal.fftconvolve(s, shape, 'same')
    return s/np.sqrt(np.mean(abs(s)**2))

band = signal.fftconvolve(rng.normal(size=(n, 2))@[1, 1j], signal.firwin(129, .5), 'same')
signals = {'fsk': np.exp(2j*np.pi*np.cumsum(np.repeat(rng.integers(0, 2, n//64)*2 - 1, 64)*.05)),
           'qpsk': pulses(np.exp(2j*np.pi*rng.integers(0, 4, n//4)/4), 4), 'qam': pulses(rng.choice([-3, -1, 1, 3], (n//2, 2))@[1, 1j], 2),
           'ofdm': band/np.sqrt(np.mean(abs(band)**2)), 'am': (1 + .5*np.sin(t/2000))*np.exp(.2j*t)}

def controlled(z, decay, most=1e4, target=.2):
    "An automatic gain control: quick down, slow up."
    out, level = np.empty_like(z), np.mean(abs(z[:128])**2)
    for i in range(0, n, 64):
        power = np.mean(abs(z[i:i+64])**2)
        level += (1 - (1 - (1/50 if power > level else 1/decay))**64)*(power - level)
        out[i:i+64] = z[i:i+64]*min(target/level**.5, most)
    return out

def lost(z, wanted):
    "Share of the windows full of signal that the gate leaves out."
    full = np.array([wanted[i:i+1024].all() for i in range(0, n, 1024)])
    kept = np.zeros(len(full), bool)
    kept[find_windows(Held(z)).start//1024] = True
    return (full & ~kept).sum()/full.sum()


@pytest.mark.parametrize('name', signals)
def test_clicks(name):
    always, z = np.ones(n, bool), .1*signals[name] + .003*white
    one, many = np.zeros(n, complex), np.zeros(n, complex)
    one[50_123], many[rng.integers(0, n, 20)] = 30, 30
    ringing, tail = signal.fftconvolve(one, 4*signal.firwin(31, .2), 'same'), 30*np.exp(-abs(t - 70_000)/20)*(t >= 70_000)
    for click in (one, many, ringing, tail, 9.*(abs(t - 70_000) < 20)): assert lost(z + click, always) == 0
    assert lost(.1*signals[name] + .03*white + one, always) == 0 # ten times as loud as the noise

@pytest.mark.parametrize('name', signals)
def test_gain_that_is_turned(name):
    sent = .1*signals[name]*bursts
    for decay, most in ((4000, 1e4), (40_000, 20)):
        assert lost(controlled(sent + .001*white, decay, most), bursts) < .05
    for pause in (.02, .014, .0063): # The noise of pauses: louder than the signal, or little weaker
        assert lost(.1*sent + np.where(bursts, .0005, pause)*white, bursts) < .05

@pytest.mark.parametrize('name', signals)
def test_steps_of_level(name):
    sent = .01*signals[name]*bursts + .002*white
    for first, then in ((1, 10), (10, 1)): assert lost(sent*np.where(t < n//2, first, then), bursts) < .05
    z = .1*signals[name] + .003*white
    assert lost(z*np.where(bursts, 1, .1) + .002*white, np.ones(n, bool)) == 0
    assert lost(z*np.repeat(10**(rng.uniform(-1, 0, 8)), n//8), np.ones(n, bool)) == 0

@pytest.mark.parametrize('name', signals)
def test_bursts_are_found_all_the_same(name):
    "The gate still works: no more than the bursts and their edges stay."
    found = find_windows(Held(.1*signals[name]*bursts + .002*white))
    assert found.gate.pause == 'noise' and len(found.start) < 1.2*bursts.mean()*found.n_windows

def test_excerpt_of_hours():
    "What is decided of an excerpt, on the path of constant memory, is decided likewise."
    def gates(z):
        part = excerpt(Held(z), 2**15, 2**12)
        assert part.n == 2**15
        return [g.pause for g in possible_gates(part, *measure_blocks(part))]
    z = .1*signals['qam'] + .003*white
    z[1000] = 30 # Within the first stretch
    assert gates(z) == [''] and gates(.1*signals['qam']*bursts + .003*white) == ['noise', '']
    assert gates(.01*signals['qam']*bursts + np.where(bursts, .0005, .02)*white) == ['']


@pytest.mark.slow
def test_rtl433():
    "Of 37,121 windows of 220 real recordings, 23,129 pass; no recording loses all, or nearly all."
    folder = shared_data('rtl433')
    if folder is None: pytest.skip('no folder shared/data/rtl433')
    found = [find_windows(open_recording(p)) for p in sorted(folder.glob('*/*.cu8'))]
    assert len(found) == 220 and min(len(f.start) for f in found) >= 6
    assert (sum(f.n_windows for f in found), sum(f.n_passed for f in found)) == (37_121, 23_129)
    assert sum(f.gate.pause == 'noise' for f in found) == 211
