"""From bare hosts to a cluster: plan, phases, and the wait until it is true."""
