#!/usr/bin/env bash
# Make ./secrets, which kustomization.yaml reads: new tokens, and placeholders to fill in.
# What is there already stays.
set -euo pipefail
CDPATH='' cd -- "$(dirname -- "$0")"
umask 077
mkdir -p secrets
keep() { [[ -e secrets/$1 ]] || printf %s "$2" >"secrets/$1"; }
for app in chat analytics; do
  keep "$app-app-token" "$(openssl rand -hex 32)"
  keep "$app-sidecar-token" "$(openssl rand -hex 32)"
  keep "$app.env" "DATABASE_URL=postgresql+asyncpg://$app:PASSWORD@postgres.example:5432/$app"
done
keep model.env "OPENAI_API_KEY="
