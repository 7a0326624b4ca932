"""The cluster simulated: real agents and the real Raft layer on a made-up machine, from one seed.

`python -m tests.simulation --seed N -v` replays a run. docs/simulation.md says what is simulated.
"""
