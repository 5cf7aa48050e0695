"""Faults of ours and of our users, drawn as a tree. What a model wrote is never an exception: it is data.

GaspError                 something a person has to read; the command line prints it as one line
├── ConfigError           an unknown key, a value out of range, a combination that cannot work
├── InputError           a file given to a command that cannot be read or is not what it must be
├── ProblemFileError      a problem file that cannot be read: file, line, field, reason
├── ModelError            a model directory that is missing, broken or refused
├── SandboxError          the sandbox cannot start here, or cannot enforce what was asked
├── EngineError           the engine failed or was asked for what it cannot do
│   ├── ServiceLostError  the service behind it cannot be reached, or gave no answer in time
│   └── HandoverError     weights did not reach all who should have them
├── WorkerError           a process of a cluster that cannot be started, or failed
│   └── WorkerLostError   it died, or gave no answer in time
└── RunError              a run directory that cannot be created, written or read
"""


class GaspError(Exception):
    """A fault with one clear line that names the cause, the value and the fix."""


class ConfigError(GaspError):
    pass


class InputError(GaspError):
    pass


class ProblemFileError(GaspError):
    pass


class ModelError(GaspError):
    pass


class SandboxError(GaspError):
    pass


class EngineError(GaspError):
    pass


class ServiceLostError(EngineError):
    pass


class HandoverError(EngineError):
    pass


class WorkerError(GaspError):
    pass


class WorkerLostError(WorkerError):
    pass


class RunError(GaspError):
    pass
