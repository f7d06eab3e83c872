"""What administrators do, whatever they do it with: the admin API, a console, a command.

Each method that changes something takes the :class:`~kipuka_core.model.administrator.Administrator`, who becomes the
actor of the audit fact. What gives rights (a one-time password, an approval, a lockout lifted, a hold released) waits
until the audit sinks have it, and is refused when a required one fails; what takes rights away is done first.
"""
