#!/bin/sh
# Installs skyagent on a worker and starts it on task.yaml, both of which stand
# beside this script, with the systemd unit. It may be run again: a new task or
# program takes the place of the old one. Run it as root.
#
# From the environment: HOME is what ~ is in mount paths. NATS_URL, NATS_CREDS,
# SKYAGENT_ARGS (more flags of skyagent agent) and what says where S3, R2 and GCS
# are, are kept for the agent. DESTDIR installs below another root and starts
# nothing.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
root=${DESTDIR:-}

install -d -m 0755 "$root/usr/local/bin" "$root/etc/systemd/system"
install -d -m 0700 "$root/etc/skyagent"
install -m 0755 "$here/skyagent" "$root/usr/local/bin/skyagent.new"
mv -f "$root/usr/local/bin/skyagent.new" "$root/usr/local/bin/skyagent" # the old one may be running
install -m 0600 "$here/task.yaml" "$root/etc/skyagent/task.yaml"
install -m 0644 "$here/skyagent-agent.service" "$root/etc/systemd/system/skyagent-agent.service"

# systemd reads NAME="value" with \ before quotes and backslashes.
keep() {
	eval "value=\${$1:-}"
	if [ -n "$value" ]; then
		printf '%s="%s"\n' "$1" "$(printf '%s' "$value" | sed 's/[\\"]/\\&/g')"
	fi
}
umask 077
{
	for name in HOME NATS_URL NATS_CREDS SKYAGENT_ARGS AWS_PROFILE AWS_REGION AWS_ENDPOINT_URL_S3 AWS_CA_BUNDLE \
		R2_ENDPOINT_URL GOOGLE_APPLICATION_CREDENTIALS; do
		keep "$name"
	done
} >"$root/etc/skyagent/agent.env"

if [ -n "$root" ]; then
	exit 0
fi
if ! [ -d /run/systemd/system ]; then
	echo "error: there is no systemd here to start the agent at boot" >&2
	echo "hint: run skyagent agent -f /etc/skyagent/task.yaml by what starts services here" >&2
	exit 1
fi
systemctl daemon-reload
systemctl enable skyagent-agent.service
systemctl restart skyagent-agent.service # returns once every file mount was tried
