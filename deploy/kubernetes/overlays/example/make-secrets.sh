#!/usr/bin/env bash
# Make ./secrets, which kustomization.yaml reads: new tokens, and placeholders to fill in.
# Existing files stay.
set -euo pipefail
CDPATH='' cd -- "$(dirname -- "$0")"
umask 077
mkdir -p secrets
keep() { [[ -e secrets/$1 ]] || printf %s "$2" >"secrets/$1"; }
for app in chat analytics; do
  for part in app sidecar; do
    # Not as an argument: if openssl failed, the script would go on, with an empty token.
    token=$(openssl rand -hex 32)
    keep "$app-$part-token" "$token"
  done
  keep "$app.env" "DATABASE_URL=postgresql+asyncpg://$app:PASSWORD@postgres.example:5432/$app"
done
keep model.env "OPENAI_API_KEY="
