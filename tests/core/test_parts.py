"""Parts that do not fit are refused with both names; parts in a checkpoint are names, never code."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from mindhand.core.errors import BuildError
from mindhand.core.parts import Entry, Registry, apply_edits, config_from_json, replaces_only, resolve


@dataclass
class Toy:
    name: str = "toy"
    needs: frozenset[str] = frozenset()
    provides: frozenset[str] = frozenset()
    replaces: frozenset[str] = frozenset()


def toy(name: str, needs: str = "", provides: str = "", replaces: str = "") -> Toy:
    return Toy(name, *(frozenset(x.split()) for x in (needs, provides, replaces)))


class Nameless:
    """A part need not state anything."""


def test_parts_that_fit():
    plan = resolve(
        {"backbone": Nameless(), "codec": toy("chunks", provides="actions"), "expert": toy("flow", "actions depth")},
        {"streams": [toy("stereo", provides="points"), toy("lift", "points backbone", "depth")], "filters": []},
    )
    assert plan.provided["depth"] == "lift (streams[1])"
    assert plan.provided["backbone"] == "Nameless (slot backbone)"
    assert plan.has("codec")
    assert not plan.has("sampler")
    assert resolve({"expert": None}, {}).provided == {}


@pytest.mark.parametrize(
    ("slots", "stacks", "words"),
    [
        # an unmet need
        ({"expert": toy("flow", "depth")}, {}, ["flow (slot expert)", "'depth'", "no other part"]),
        ({"expert": toy("flow", "codec")}, {}, ["flow (slot expert)", "'codec'"]),
        ({"codec": None, "expert": toy("flow", "codec")}, {}, ["'codec'"]),
        ({}, {"streams": [toy("a", "depth", "depth")]}, ["a (streams[0])", "no other part"]),
        # a second claimant of a name, in slots and stacks alike
        (
            {"codec": toy("fast", provides="words"), "expert": toy("ar", provides="words")},
            {},
            ["fast (slot codec)", "ar (slot expert)", "'words'"],
        ),
        (
            {},
            {"streams": [toy("a", provides="depth")], "transforms": [toy("b", provides="depth")]},
            ["a (streams[0])", "b (transforms[0])", "'depth'"],
        ),
        ({}, {"edits": [toy("lora", provides="x"), toy("lora", provides="x")]}, ["lora (edits[0])", "lora (edits[1])"]),
        # a second claimant of a slot
        (
            {"sampler": toy("ode")},
            {"objectives": [toy("distil", provides="sampler")]},
            ["ode (slot sampler)", "distil (objectives[0])", "'sampler'"],
        ),
        # two objectives for one loss
        (
            {},
            {"objectives": [toy("rl", replaces="action"), toy("ki", replaces="action")]},
            ["rl (objectives[0])", "ki (objectives[1])", "loss 'action'"],
        ),
        # the order of a stack
        (
            {},
            {"streams": [toy("lift", "points"), toy("stereo", provides="points")]},
            [
                "lift (streams[0])",
                "stereo (streams[1])",
                "after it",
                "put stereo (streams[1]) before lift (streams[0])",
            ],
        ),
        # a quality that the occupant of a slot has not
        (
            {"codec": toy("bins", provides="codec/ids"), "expert": toy("flow", "codec/numbers")},
            {},
            ["flow (slot expert)", "'codec/numbers'", "bins (slot codec) lacks", "['codec/ids']"],
        ),
        (
            {"expert": toy("tokens")},
            {"streams": [toy("depth", "expert/towers")]},
            ["depth (streams[0])", "'expert/towers'", "tokens (slot expert) lacks", "[]"],
        ),
        ({"expert": toy("flow", "codec codec/numbers")}, {}, ["flow (slot expert)", "'codec'"]),
        ({"expert": toy("flow", "eye/wrist")}, {}, ["'eye/wrist'", "no other part"]),
        # seams that do not exist
        ({"nose": toy("x")}, {}, ["unknown slot 'nose'", "backbone"]),
        ({}, {"wrappers": []}, ["unknown stack 'wrappers'", "streams"]),
        # a set of letters
        ({"expert": Toy("flow", needs="depth")}, {}, ["flow (slot expert)", "'depth'", "frozenset"]),
        ({"expert": Toy("flow", provides=frozenset({1}))}, {}, ["flow (slot expert)", "frozenset"]),
    ],
)
def test_parts_that_do_not_fit(slots, stacks, words):
    with pytest.raises(BuildError) as caught:
        resolve(slots, stacks)
    for word in words:
        assert word in str(caught.value)


def test_order_matters_within_a_stack_only():
    late = toy("stereo", provides="points")
    resolve({}, {"streams": [late, toy("lift", "points")]})
    resolve({}, {"streams": [toy("lift", "points")], "transforms": [late]})
    resolve({"expert": toy("flow", "points")}, {"streams": [late]})


def test_a_quality_of_a_slot_is_needed_only_of_an_occupant():
    resolve({"expert": None, "backbone": toy("mind")}, {"streams": [toy("depth", "expert/towers")]})
    tower = toy("tower", provides="backbone/tower")
    resolve({"backbone": toy("mind"), "expert": toy("hand", "backbone/tower")}, {"edits": [tower]})
    with pytest.raises(BuildError, match=r"tower \(edits\[0\]\) and tower \(edits\[1\]\) both provide"):
        resolve({"backbone": toy("mind")}, {"edits": [tower, toy("tower", provides="backbone/tower")]})


def test_what_an_edit_refuses_is_told_with_what_was_done_before_it():
    class Surgery:
        def __init__(self, name, refuses=False):
            self.name, self.refuses = name, refuses

        def apply(self, model):
            if self.refuses:
                raise BuildError("a mixture", "an FFN", "once")
            model.append(self.name)

    done: list[str] = []
    apply_edits(done, [Surgery("a"), Surgery("b")])
    assert done == ["a", "b"]
    with pytest.raises(BuildError, match=r"^c \(edits\[2\]\), after a \(edits\[0\]\), b \(edits\[1\]\): a mixture"):
        apply_edits([], [Surgery("a"), Surgery("b"), Surgery("c", True)])
    with pytest.raises(BuildError, match=r"^c \(edits\[0\]\), after no other edit"):
        apply_edits([], [Surgery("c", True)])


def test_who_replaces_a_part_says_which():
    replaces_only({"codec": toy("bins"), "expert": 3}, "FAST", codec=Toy)
    with pytest.raises(BuildError, match=r"FAST in the place of other \(slot codec\)\n  expected: a Nameless"):
        replaces_only({"codec": toy("other")}, "FAST", codec=Nameless)
    with pytest.raises(BuildError, match="FAST in the place of NoneType"):
        replaces_only({}, "FAST", codec=Nameless)


# ---- names ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Inner:
    sizes: tuple[int, ...] = (1, 2)


@dataclass(frozen=True)
class Config:
    width: int = 8
    rate: float = 0.1
    layers: tuple[tuple[str, int], ...] = (("a", 1),)
    inner: Inner = field(default_factory=Inner)
    maybe: int | None = None
    names: tuple[str, ...] = ()


def build(config: Config, scale: int = 1) -> tuple[Config, int]:
    return config, scale


def other(config: Inner) -> Inner:
    return config


def test_a_part_returns_from_its_name_and_config():
    registry = Registry()
    registry.add(Entry("flow", Config, build))
    config = Config(4, 0.5, (("b", 2), ("c", 3)), Inner((7,)), 3, ("x",))
    stored = registry.describe("flow", config)
    import json

    stored = json.loads(json.dumps(stored))
    assert set(stored) == {"name", "config"}
    assert registry.build(stored, scale=3) == (config, 3)
    assert registry.build({"name": "flow", "config": json.loads(json.dumps(stored["config"]))})[0].inner == Inner((7,))


def test_names_that_are_unknown_taken_or_no_names_are_refused():
    registry = Registry()
    registry.add(Entry("flow", Config, build))
    registry.add(Entry("flow", Config, build))  # the same again is no conflict
    with pytest.raises(BuildError, match="both register 'flow'"):
        registry.add(Entry("flow", Inner, other))
    for name in ("mindhand.methods.act.flow", "os.system", "Flow", "", "a-b"):
        with pytest.raises(BuildError):
            registry.add(Entry(name, Config, build))
        with pytest.raises(BuildError, match="unknown part"):
            registry.build({"name": name, "config": {}})
    with pytest.raises(BuildError, match="dataclass"):
        registry.add(Entry("dict", dict, build))
    with pytest.raises(BuildError, match="with a Inner"):
        registry.describe("flow", Inner())


@pytest.mark.parametrize("change", [{"surplus": 1}, {"width": None}])
def test_fields_too_many_or_too_few_are_refused(change):
    registry = Registry()
    registry.add(Entry("flow", Config, build))
    stored = registry.describe("flow", Config())
    config = {**stored["config"], **change}
    if change.get("width", 1) is None:
        del config["width"]
    with pytest.raises(BuildError, match="missing or unknown"):
        registry.build({"name": "flow", "config": config})
    with pytest.raises(BuildError, match=r"flow\.Inner"):
        config_from_json(Config, {**stored["config"], "inner": {}}, "flow")


def test_installed_packages_offer_parts_as_entry_points(tmp_path, monkeypatch):
    """A real distribution on the path, as an installed one is found."""
    (tmp_path / "extra_hand.py").write_text(
        "from dataclasses import dataclass\nfrom mindhand.core.parts import Entry\n"
        "@dataclass(frozen=True)\nclass Config:\n    width: int = 3\n"
        "ENTRY = Entry('extra', Config, lambda config: config.width)\n"
    )
    info = tmp_path / "extra_hand-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: extra-hand\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[mindhand.parts]\nextra = extra_hand:ENTRY\n")
    assert "extra" not in Registry().names()
    monkeypatch.syspath_prepend(str(tmp_path))
    assert "extra" in Registry().names()
    assert Registry().build({"name": "extra", "config": {"width": 5}}) == 5


def test_a_described_part_is_built_without_a_file():
    """asdict leaves tuples; JSON leaves lists: both are the same Config again."""
    from dataclasses import asdict

    from mindhand.model.moe import MoEConfig, Upcycle

    assert config_from_json(Upcycle, asdict(Upcycle(MoEConfig(4, 2))), "upcycle") == Upcycle(MoEConfig(4, 2))
