-- The model's reasoning so far, in the same pieces as its text: a piece may have both.
alter table generation_pieces add column reasoning text not null default '';
