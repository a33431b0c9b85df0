"""The expert at the wheel, and what a test asks of every family."""


def drive(world, row, k, limit=400):
    """The expert's episode: last outcome and steps."""
    world.reset([k], [row])
    for step in range(limit):
        outcome = world.step(world.expert([row]), [row])
        if outcome.done[0]:
            return outcome, step + 1
    raise AssertionError("the episode has no end")


def worded(world, k):
    """A clean start of this episode: what is seen there, having seen that it can be said in two other ways."""
    world.reset([k], [0])
    clean = world.observe([0])
    assert len({*world.wordings(0).values(), clean.text["instruction"][0]}) == 3
    return clean
