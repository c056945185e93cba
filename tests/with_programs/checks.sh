#!/usr/bin/env bash
# Has goproxy check a real server and prints what the server's log and the kernel have to say of that, as NAME=NUMBER:
# checks that passed, lines that the log grew by, connections that MariaDB counts as aborted, connections that were cut.
#
#   unshare --net --mount checks.sh GOPROXY PROGRAM CHECK COUNT
#
# It runs in a network namespace of its own, so nobody else is counted. The server has an address that is not loopback's,
# because MariaDB makes an exception for 127.0.0.1.

set -euo pipefail
goproxy=$1 program=$2 check=$3 count=$4
ip=10.9.9.9

home=$(mktemp -d /tmp/goproxy-checks.XXXXXX)
chmod 755 "$home"
mkdir "$home/server"
children=()
# Those that are gone already need not be ended.
cleanup() {
    for child in "${children[@]}"; do kill "$child" 2> /dev/null || true; done
    wait
    rm -rf -- "$home"
}
trap cleanup EXIT

ip link set lo up
ip address add "$ip/32" dev lo
# MariaDB would log that it finds no name for the address.
printf '127.0.0.1 localhost\n%s proxy\n' "$ip" > "$home/hosts"
mount --bind "$home/hosts" /etc/hosts

# PostgreSQL does not run as root; a namespace without other users has to make one up.
if setpriv --reuid=65534 --regid=65534 --clear-groups true 2> /dev/null; then
    chown 65534:65534 "$home/server"
    plain=(setpriv --reuid=65534 --regid=65534 --clear-groups)
else
    plain=(unshare --user --map-user=1000 --map-group=1000)
fi

wait_for() {
    local tries
    for ((tries = 0; tries < 600; tries++)); do
        "$@" > /dev/null 2>&1 && return
        sleep 0.1
    done
    echo "waited in vain for: $*" >&2
    cat "$home/server/server.log" >&2
    exit 1
}

run() {
    "${plain[@]}" "$@" < /dev/null > "$home/out" 2>&1 &
    children+=($!)
}

aborted() { echo 0; }

cd "$home/server"
touch server.log && chmod 666 server.log
case $program in
    postgresql | postgresql-trust)
        bin=$(ls -d /usr/lib/postgresql/*/bin | tail -n 1)
        method=scram-sha-256
        [[ $program = postgresql ]] || method=trust
        echo secret > "$home/password"
        chmod 644 "$home/password"
        "${plain[@]}" "$bin/initdb" -D data -U postgres -A "$method" --pwfile="$home/password" > /dev/null
        echo "host all all $ip/32 $method" | "${plain[@]}" tee -a data/pg_hba.conf > /dev/null
        "${plain[@]}" bash -c 'exec "$@" >> server.log 2>&1' - "$bin/postgres" -D data -k "$home/server" -h "$ip" -p 7000 &
        children+=($!)
        wait_for grep -q 'ready to accept connections' server.log
        ;;
    mariadb)
        "${plain[@]}" mariadb-install-db --no-defaults --datadir="$home/server/data" --skip-test-db \
            --auth-root-authentication-method=normal > "$home/out"
        run mariadbd --no-defaults --datadir="$home/server/data" --socket="$home/server/socket" --bind-address="$ip" \
            --port=7000 --max-connect-errors=100 --log-error="$home/server/server.log" --pid-file="$home/server/pid"
        sql() { mariadb --no-defaults --socket="$home/server/socket" --user=root --skip-column-names --batch -e "$1"; }
        wait_for sql 'SELECT 1'
        sql "CREATE USER 'goproxy'@'%'"
        aborted() { sql "SHOW GLOBAL STATUS LIKE 'Aborted_connects'" | cut -f 2; }
        ;;
    redis | redis-password)
        options=()
        [[ $program = redis ]] || options=(--requirepass secret)
        run redis-server --bind "$ip" --port 7000 --protected-mode no --save "" --logfile "$home/server/server.log" "${options[@]}"
        wait_for grep -q 'Ready to accept connections' server.log
        ;;
    nginx | nginx-proxy)
        option= ask=(curl -sf)
        [[ $program = nginx ]] || option=proxy_protocol ask=(curl -sf --haproxy-protocol)
        mkdir pages && echo '{"ok":true}' > pages/health && head -c 4000000 /dev/zero > pages/large && chmod 777 .
        printf '%s\n' 'pid nginx.pid; daemon off; error_log server.log; events {}' 'http { access_log off;' \
            'client_body_temp_path t1; proxy_temp_path t2; fastcgi_temp_path t3; uwsgi_temp_path t4; scgi_temp_path t5;' \
            "server { listen $ip:7000 $option; root pages; } }" > nginx.conf
        run nginx -p "$home/server" -c nginx.conf -e server.log
        wait_for "${ask[@]}" "http://$ip:7000/health"
        ;;
esac

printf '{ "admin": { "listen": "127.0.0.1:8080" }, "log": { "status_interval": "0s" }, "groups": [\n%s\n] }' \
    "{ \"listen\": \"127.0.0.1:8081\", \"servers\": [\"$ip:7000\"], \"check\": $check }" > "$home/proxy.json"
REDIS_PASSWORD=secret "$goproxy" -c "$home/proxy.json" 2> "$home/proxy.log" &
children+=($!)
wait_for curl -sf http://127.0.0.1:8080/ready

lines() { wc -l < "$home/server/server.log"; }
# Connections that were cut, and not resets: the kernel answers an acknowledgement with one when the other side has closed
# in order meanwhile, and nobody sees that.
cut() { nstat -asz TcpEstabResets TcpExtTCPAbortOnData TcpExtTCPAbortOnClose | awk 'NR > 1 { sum += $2 } END { print sum }'; }

lines=$(lines) aborted=$(aborted) cut=$(cut) began=$EPOCHREALTIME
url="http://127.0.0.1:8080/worker-check.do?group=8081&server=$ip:7000"
yes "$url" | head -n "$count" | xargs -n 200 curl -s > "$home/said" || true
ms=$(((${EPOCHREALTIME/./} - ${began/./}) / 1000))
# What an end in order costs the server's log comes a little later.
sleep 1.5
passed=$({ grep -o '"msg": *"passed"' "$home/said" || true; } | wc -l)
printf 'passed=%s lines=%s aborted=%s cut=%s\n' "$passed" "$(($(lines) - lines))" "$(($(aborted) - aborted))" "$(($(cut) - cut))"
printf '%s ms\n' "$ms" >&2
[[ $passed = "$count" ]] || { tail -c 600 "$home/said"; echo; tail -n 5 "$home/server/server.log"; tail -n 5 "$home/proxy.log"; } >&2
