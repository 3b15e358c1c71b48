-- What the model has thought so far, in the same pieces as its text: one may have both.
alter table generation_pieces add column reasoning text not null default '';
