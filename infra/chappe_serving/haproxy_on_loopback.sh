#!/bin/sh
# HAProxy as Ray starts it (`-db -f CONFIG …`), except that nothing listens on every interface: Ray's template binds its
# metrics and its statistics, which know no token, to `*`.
sed -i -e 's/bind \*:/bind 127.0.0.1:/' -e 's/bind :/bind 127.0.0.1:/' "$3" || exit 1
exec "$CHAPPE_HAPROXY" "$@"
