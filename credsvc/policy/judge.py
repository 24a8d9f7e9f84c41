"""One policy set with the answers that it gave lately.

Rules:
- A decision is a pure function of what the rules of its action read (`credsvc.policy.reads`): an answer is
  remembered under that, so that requests that differ in nothing else share it. Another policy set is another
  judge.
- Cedar refuses a request whose context does not fit the schema, also where no rule reads the misfit: the
  names and types of the context are part of what an answer is remembered under.
- `preview` may only refuse early: what it leaves undecided is decided on the holes.
- What is remembered is bounded: in number, and each answer in the length of its context.

A decision takes Cedar 35 to 200 us, a remembered one 1 to 2. For one thread.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from operator import attrgetter
from typing import Final, Generic, TypeVar

from credsvc.policy.cedar import AgentEntity, CredentialEntity, PolicySet
from credsvc.policy.decision import Denial, Grant, Undecided

T = TypeVar("T")

# Of each kind of answer; the oldest is dropped first, and computed again where it is asked for.
MAX_REMEMBERED: Final = 8192
MAX_CONTEXT_CHARS: Final = 1024
"""Of what rules read in a context that is remembered: bounds the memory of a judge, at some 20 MB."""
# Cedar's Long.
_LONG: Final = range(-(2**63), 2**63)
_Values = tuple[str | int, ...]


class Judge:
    """The policy set whose digest the store has as `digest` (the empty text while no set was ever put)."""

    def __init__(self, policies: PolicySet, *, digest: str) -> None:
        self.digest = digest
        self._policies = policies
        self._views: dict[str, _View] = {}
        self._previews = _Answers[Denial | Undecided]()
        self._decisions = _Answers[Grant | Denial]()
        self._readings = _Answers[Grant | Denial]()

    def preview(self, agent: AgentEntity, action: str, credential: CredentialEntity) -> Denial | Undecided:
        """Refuse what no context could allow."""
        view = self._view(action)
        key = (action, view.agent(agent), view.credential(credential))
        found = self._previews.find(key)
        if found is None:
            found = self._previews.keep(key, self._policies.preview_use(agent, action, credential))
        return found

    def decide(
        self, agent: AgentEntity, action: str, credential: CredentialEntity, context: Mapping[str, str | int]
    ) -> Grant | Denial:
        """Decide on what will really be signed."""
        view = self._view(action)
        seen = view.context(context)
        key = (action, view.agent(agent), view.credential(credential), seen)
        found = self._decisions.find(key)
        if found is None:
            found = self._policies.decide_use(agent, action, credential, context)
            if _chars(seen) <= MAX_CONTEXT_CHARS:
                self._decisions.keep(key, found)
        return found

    def is_guessable(self, action: str) -> bool:
        """Whether what the operation releases lets passwords be tried."""
        return self._policies.is_guessable(action)

    def may_read(self, agent: AgentEntity, ledger: str) -> Grant | Denial:
        """Decide whether an agent may read a ledger's entries (and this service's metrics)."""
        key = (self._view("read").agent(agent), ledger)
        found = self._readings.find(key)
        if found is None:
            found = self._readings.keep(key, self._policies.decide_read(agent, ledger))
        return found

    def _view(self, action: str) -> _View:
        # Manifests name the actions, so these are few.
        view = self._views.get(action)
        if view is None:
            view = self._views[action] = _View(self._policies, action)
        return view


class _View:
    """What the rules of one action see of a request."""

    def __init__(self, policies: PolicySet, action: str) -> None:
        reads = policies.reads(action)
        self.agent: Callable[[AgentEntity], Hashable] = _fields(reads.agent)
        self.credential: Callable[[CredentialEntity], Hashable] = _fields(reads.credential)
        self._context = reads.context
        # By names and types. A manifest gives the contexts of a formula always in the same order, so these
        # are few.
        self._forms: dict[tuple[tuple[str, ...], tuple[type, ...]], _Form] = {}

    def context(self, context: Mapping[str, str | int]) -> _Seen:
        """The form of a context, and the values of what is read of it."""
        values = tuple(context.values())
        names, types = tuple(context), tuple(map(type, values))
        form = self._forms.get((names, types))
        if form is None:
            form = self._forms[names, types] = _Form(names, types, self._context)
        return form, form.read(values)


class _Form:
    """Contexts with the same names and types, and what is read of them; equal only to itself."""

    def __init__(self, names: tuple[str, ...], types: tuple[type, ...], reads: frozenset[str] | None) -> None:
        self._picked: tuple[int, ...] | None = None
        if reads is not None and {str, int}.issuperset(types):
            self._picked = tuple(at for at, name in enumerate(names) if name in reads)
        self._numbers = tuple(at for at, kind in enumerate(types) if kind is int)

    def read(self, values: _Values) -> _Values:
        """The values that are read; all of them where one may be what Cedar refuses."""
        if self._picked is None:
            return values
        for at in self._numbers:
            if values[at] not in _LONG:
                return values
        return tuple([values[at] for at in self._picked])


def _fields(names: tuple[str, ...]) -> Callable[[object], Hashable]:
    return attrgetter(*names) if names else lambda _entity: ()


def _chars(seen: _Seen) -> int:
    return sum(len(value) for value in seen[1] if isinstance(value, str))


_Seen = tuple[_Form, _Values]


class _Answers(Generic[T]):
    """The answers of one kind, by what was asked."""

    def __init__(self) -> None:
        self._kept: dict[Hashable, T] = {}

    def find(self, key: Hashable) -> T | None:
        return self._kept.get(key)

    def keep(self, key: Hashable, answer: T) -> T:
        if len(self._kept) >= MAX_REMEMBERED:
            del self._kept[next(iter(self._kept))]
        self._kept[key] = answer
        return answer
