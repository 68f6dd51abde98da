#!/bin/bash
# PostgreSQL's entrypoint runs this if its volume is empty. It creates each service's user and database.
set -euo pipefail
for service in chat analytics; do
  variable=${service^^}_DB_PASSWORD
  # psql quotes the values itself.
  psql -v ON_ERROR_STOP=1 -U postgres -v name="$service" -v password="${!variable}" <<'SQL'
CREATE ROLE :"name" LOGIN PASSWORD :'password';
CREATE DATABASE :"name" OWNER :"name";
REVOKE CONNECT, TEMPORARY ON DATABASE :"name" FROM PUBLIC;
SQL
done
