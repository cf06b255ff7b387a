"""A second generator of modulated frames in plain numpy, from the textbook, which shares nothing with `lt_signals.synth`.

Symbols are summed as pulses in time, pulse by pulse, from the closed form of the root-raised cosine (Proakis & Salehi, Digital Communications, 9.2-27);
frequency modulations integrate pulses of frequency; analog messages are band-limited Gaussian noise. A frame is complex (n,), of unit power, at any number of
samples a symbol. What networks lose from the package's own frames to these is what they have learned of its generator rather than of modulations.
"""
import numpy as np

APSK = {16: ((4, 1.), (12, 2.85)), 32: ((4, 1.), (12, 2.84), (16, 5.27)), 64: ((8, 1.), (16, 2.2), (20, 3.6), (20, 5.2)),
        128: ((16, 1.), (16, 1.715), (16, 2.118), (32, 2.681), (16, 2.75), (32, 3.733))}
LINEAR = ('OOK', '4ASK', '8ASK', 'BPSK', 'QPSK', '8PSK', '16PSK', '32PSK', '16APSK', '32APSK', '64APSK', '128APSK',
          '16QAM', '32QAM', '64QAM', '128QAM', '256QAM')
OTHERS = 'OQPSK', 'GMSK', 'FM', 'AM-DSB-SC', 'AM-DSB-WC', 'AM-SSB-SC', 'AM-SSB-WC'


def constellation(name):
    "The points of a linear modulation, mean power 1."
    if name == 'OOK': p = np.array([0, 1])
    elif name.endswith('APSK'):
        p = np.concatenate([r*np.exp(2j*np.pi*(k + .5)/n) for n, r in APSK[int(name[:-4])] for k in [np.arange(n)]])
    elif name.endswith('ASK'): p = 2*np.arange(int(name[:-3])) - int(name[:-3]) + 1
    elif name.endswith('PSK'):
        m = dict(BPSK=2, QPSK=4).get(name) or int(name[:-3])
        p = np.exp(2j*np.pi*np.arange(m)/m)
    else:
        m = int(name[:-3])
        side = {16: 4, 32: 6, 64: 8, 128: 12, 256: 16}[m]
        grid = 2*np.arange(side) - side + 1
        p = (grid[:, None] + 1j*grid).ravel()
        if m in (32, 128): # a cross: of the square of 36 or 144 points the corners are left out
            cut = side - 1 - (0 if m == 32 else 2)
            p = p[~((abs(p.real) >= cut) & (abs(p.imag) >= cut))]
        assert len(p) == m
    return p/np.sqrt((abs(p)**2).mean())


def rrc(t, a):
    "Root-raised-cosine pulse of unit energy, t in symbols."
    t = np.asarray(t, float)
    with np.errstate(divide='ignore', invalid='ignore'):
        h = (np.sin(np.pi*t*(1 - a)) + 4*a*t*np.cos(np.pi*t*(1 + a)))/(np.pi*t*(1 - (4*a*t)**2))
    h = np.where(abs(t) < 1e-8, 1 - a + 4*a/np.pi, h)
    edge = a/np.sqrt(2)*((1 + 2/np.pi)*np.sin(np.pi/(4*a)) + (1 - 2/np.pi)*np.cos(np.pi/(4*a)))
    return np.where(abs(abs(4*a*t) - 1) < 1e-6, edge, h)


def linear(symbols, sps, a, n, start, late=0., reach=14):
    "Pulses of `symbols` at sample `start + k*sps`, and `late` symbols later where they have an imaginary half."
    t = (np.arange(n) - start)/sps - late
    k = np.floor(t).astype(int)[:, None] + np.arange(-reach, reach + 1)
    there = (k >= 0) & (k < len(symbols))
    return (rrc(t[:, None] - k, a)*there*symbols[k.clip(0, len(symbols) - 1)]).sum(1)


def gaussian_phase(bits, sps, bt, index, n, start, fine=16):
    "Phase of Gaussian frequency-shift keying: the integral of Gaussian-filtered rectangles of frequency."
    m = int(len(bits)*sps*fine)
    nrz = np.repeat(bits, int(round(sps*fine))).astype(float)[:m]
    sigma = np.sqrt(np.log(2))/(2*np.pi*bt)*sps*fine
    k = np.arange(-int(5*sigma), int(5*sigma) + 1)
    g = np.exp(-.5*(k/sigma)**2)
    frequency = np.convolve(nrz, g/g.sum(), 'same')*np.pi*index/(sps*fine)
    return np.cumsum(frequency)[int(start*fine)::fine][:n]


def message(rng, n, width):
    "Real Gaussian noise below `width` cycles a sample and above a tenth of it, unit power."
    x = np.fft.rfft(rng.standard_normal(4*n))
    f = np.fft.rfftfreq(4*n)
    m = np.fft.irfft(x*((f <= width) & (f >= .1*width)), 4*n)
    return m/m.std()


def frame(name, n=1024, sps=8., a=.35, rng=None, width=.035, am=.75, fm=2.5):
    "A frame of a modulation, complex (n,), unit power."
    rng = np.random.default_rng() if rng is None else rng
    k, start = int(n/sps) + 30, -15*sps + rng.uniform(0, sps)
    if name in LINEAR: x = linear(rng.choice(constellation(name), k), sps, a, n, start)
    elif name == 'OQPSK':
        i, q = rng.choice([-1., 1.], (2, k))
        x = linear(i, sps, a, n, start) + 1j*linear(q, sps, a, n, start, .5)
    elif name == 'GMSK': x = np.exp(1j*gaussian_phase(rng.choice([-1, 1], k), sps, .3, .5, n, 10*sps))
    elif name == 'FM': x = np.exp(2j*np.pi*np.cumsum(message(rng, n, width))[n:2*n]*fm*width/3)
    else:
        m, carrier = message(rng, n, width), name.endswith('WC')
        z = np.fft.fft(m)
        if 'SSB' in name: # the analytic signal, or its mirror
            f = np.fft.fftfreq(len(m))
            m = np.fft.ifft(z*np.where((f > 0) == (rng.random() < .5), np.sqrt(2), 0))
        x = (carrier + m*(am/3 if carrier else 1))[n:2*n]*np.exp(2j*np.pi*rng.random())
    return x/np.sqrt((abs(x)**2).mean())


def noise(n, rng, share=1., taps=129):
    "Complex noise of unit power that fills a part of the band: white noise behind a windowed-sinc filter."
    w = (rng.standard_normal(n + taps) + 1j*rng.standard_normal(n + taps))/np.sqrt(2)
    if share >= 1: return w[:n]
    t = np.arange(taps) - taps//2
    h = share*np.sinc(share*t)*np.hamming(taps)
    y = np.convolve(w, h, 'same')[taps//2:][:n]
    return y/np.sqrt((h**2).sum())


def received(name, snr_db, n=1024, share=1., offset=0., rng=None, **kwargs):
    "A frame with noise whose power in the whole band is `snr_db` below the signal's, of unit power in all."
    rng = np.random.default_rng() if rng is None else rng
    x = frame(name, n, rng=rng, **kwargs)*np.exp(2j*np.pi*(offset*np.arange(n) + rng.random()))
    x = x + 10**(-snr_db/20)*noise(n, rng, share)
    return x/np.sqrt((abs(x)**2).mean())
