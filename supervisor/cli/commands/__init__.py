"""The commands of ``hermesctl``, one module each; `hermesd.supervisor.cli.hermesctl` imports only the one that runs."""
