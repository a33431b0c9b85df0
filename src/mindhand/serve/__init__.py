"""Acting: chunks carried out step by step, filters before a robot, the policy server."""
