#!/usr/bin/env bash
# Make ./secrets, which kustomization.yaml reads: new tokens, and placeholders to fill in.
# Existing files stay.
set -euo pipefail
CDPATH='' cd -- "$(dirname -- "$0")"
umask 077
mkdir -p secrets
keep() { [[ -e secrets/$1 ]] || printf %s "$2" >"secrets/$1"; }
for app in chat analytics; do
  for whose in app sidecar; do
    # In a line of its own: an argument that fails would end nothing, and an empty token is none.
    token=$(openssl rand -hex 32)
    keep "$app-$whose-token" "$token"
  done
  keep "$app.env" "DATABASE_URL=postgresql+asyncpg://$app:PASSWORD@postgres.example:5432/$app"
done
keep model.env "OPENAI_API_KEY="
