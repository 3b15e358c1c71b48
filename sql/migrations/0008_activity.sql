alter table members add column written_bytes bigint not null default 0;
