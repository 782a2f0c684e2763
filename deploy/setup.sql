-- Roles, database and PgQ, on a new primary, as a superuser; described in docs/deploy.md:
-- psql -v ON_ERROR_STOP=1 -v password=... -v replication_password=... -f setup.sql

CREATE ROLE groundswell LOGIN PASSWORD :'password';
CREATE ROLE replicator LOGIN REPLICATION PASSWORD :'replication_password';
CREATE DATABASE groundswell OWNER groundswell ENCODING 'UTF8' TEMPLATE template0;

\connect groundswell
CREATE EXTENSION pgq;
GRANT pgq_admin TO groundswell;
