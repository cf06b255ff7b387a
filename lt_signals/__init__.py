__version__ = "0.2.0"

import warnings

# fastai puts `torch.jit.script` before a function, of which torch says at every import that it will go
warnings.filterwarnings('ignore', '.*torch.jit', FutureWarning)
