"""The gateway: HAProxy, which sends requests under `/NAME` to healthy guests of the service NAME.

HaproxyGateway   runs it in a unit of its own and keeps its routes as wanted; `ports.Gateway`
configuration    routes -> the text that HAProxy reads; pure
runtime          what its socket says, and the commands that change its servers
"""
