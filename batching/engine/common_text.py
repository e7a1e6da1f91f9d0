"""Words and phrases that many people's prompts and answers hold: no sign of a leak."""

# Frequent words of prose in English, German, French and Spanish, and of program code.
COMMON_WORDS = """
a aber able about above abril abs abstract accept account action add address after again ago agosto
agree agreement air alert all alle alles allow almost alone along alpha already als also alter
although always am among amount an and andere anderen anfrage another answer answered antwort any
anything août api app append apply april are area args argument arguments argv around arr array as
ask asked assert asunto async at atentamente attached attr au auch auf august aujourd aus aussi
auth author auto aux available avec avg avoir avril await away ayer back background bad balance
bank bar base based bash baz be because become been before began begin bei beispiel believe below
best bestellung betreff better between bien big bin bis bit bitte black blue body bold bonjour book
bool boolean border both bottom box break bring brother brought build building built business but
button buy by byte bytes cache call callback called came can cannot car care carry cascade case
cast catch category cause ce center century certainly ces cette chance change changed char charset
check child children choose city class clause clean clear click client close cls cmd coalesce code
col cold color column columns com come comes coming command commande comme comment commit common
como company compile complete component con concerning config connect connection consider console
const constant constraint constructor contact container content context continue contract control
convert copy cordialement cordially core correct cost could count counter country couple course cpu
create created css csv cuando current cursor customer customers cut cwd da damen dank danke dann
dans darf das dass data database dataframe date datetime day db de dear death debug december decide
decided decimal decode deep def default define del delete deleted delivery dem demain den
department departments der des desc description dest details dev development dezember df diciembre
dict did die dienstag diese dieser dieses diff difference different difficult digest dimanche dir
directory disabled display dist distinct div do doc doch docker document does doing dom domingo
donde done donnerstag door dort double down dr drop dtype du dump durch during décembre each early
easy eat economic effect ein eine einem einen einer either el element elif ella elle else email
emit employee employees empty en enable encode encoding end enero enjoy enough entire entry enum
env environ equal er err error errors es est estar estimada estimado et etwas eval even evening
event events ever every everybody everyone everything example except exception exclude exec exists
exit expect experience explain export express extends extern eye face fact factura facture fail
faire fait fall false family far fast father febrero februar february feel feet felt fetch few
field fields fig file filename files fill filter final finally find fine fire first fit fixture
flag flags flask flex float floor flush fmt folder folgende folgenden follow following font foo
food foot for force foreach foreign form format former forward found frage fragen frame framework
frau free freitag freundliche freundlichen friday friend friends from front frozen full func
function functions further future février für game geehrte geehrter gegen general gerne gestern get
getattr girl git give given gives glad global go good goto government gracias great green grid
ground group grow groß grüße grüßen guard gut guten haben hacer had half hallo hand handle handler
happen happened happy hard has hash hat hatte have having he head header headers health heard
hearing heart height held hello help her here herr herren hers heute hi hidden hier hiermit high
him his history hola hold home hook hope host hour hours house how however hoy href html http https
hui human hundred hätte i ich id idea ideas idx if ihnen ihr ihre ihren il ils im img immer
implements import important in include inconvenience index info information ingredients init inner
input insert inside install instance instructions int integer interest interface interval into
invalid invoice is isinstance issue ist it item items iter iterator its jahr januar january janvier
java javascript je jede jeder jedes jetzt jeudi job join js json jsonify jsx jueves juillet juin
juli julio july june juni junio just kann keep kein keine key keys kind klein knew know known kunde
kunden kwargs können la label lambda land language large largest las last later layout le lead
learn least leave leaving led left leider len length les less let letter leur leurs level lib
library license lieferung life light like likely limit line lines link list little live living load
local localhost lock log logger logging logs long longer look loop los lost lot love low lower lru
lundi lunes ma madam madame made mai mail main mais major make malloc man many map march mardi
margin mark market mars martes marzo match math matter max maxsize may maybe mayo mañana me mean
means meeting mehr mein meine member menos merci mercredi merge mes message meta metadata method
methods mfg mi mid middle might min mind minute minutes mis miss mit mittwoch miércoles mock mode
model models module moins moment mon monat monday money monsieur montag month months more morgen
morning most mother mount mountain move mr mrs ms msg much multi music muss must mut mutable muy my
myself más märz möchte müssen nach nachricht name namespace national nature ne near necessary need
needed needs negative neu neue neuen neutral never new news next nicht nichts night no noch node
none north nos nosotros not note notes nothing notre nous november novembre noviembre now nuestra
nuestro null num number numbers numeric numpy nur o ob obj object objet october octobre octubre
oder of off offer office offset often ohne oil oktober old on once one only open operator
opportunity option optional options or order orders os other ou our ours out outer output outside
over override own owner où package padding page paid panda pandas paper par para paragraph param
params parent parents parse parser part particular parties partition parts party pas pass password
past path pathlib pattern pay pedido people per perf perhaps period pero person phone picture pip
pivot place plan play please plot plt plus point pointer police political poor pop por port
position positive possible post posts pour power prefix prepare present president pretty prev price
primary print printf private probably problem problems process product products program project
promise prop property protected protocol provide public push put py pyplot pytest python quand
quantity que query question questions queue qui quick quickly quite raise random range rank rather
raw reach react read ready real really reason receive received recent rechnung record recursive red
redirect ref references regarding regards regex register release remember remove render repeat
replace repo report request require required requirements research reset resolve resp response rest
result results return reverse review right river road role room root round route row rows run
runtime sa safe said salary sale saludos salutations same samedi samstag saturday save saw say says
scan schema schon school scope script sea search second section see seem sehr sein seine seinen
seit select selector self sell send sense sentence sep september septembre septiembre ser serial
server service ses session set setdefault setter setup several señor señora shall shape share she
shell shift shop short should show shown si sick side sie sign signal similar simple simply since
sincerely sind single sir sister sit size sklearn sleep slice slim slowly small so socket soll
sollte some something sometimes son sonntag sont soon sorry sort sorted sound source south span
special spend split sql src ssl stand start started state static status stay std stderr stdio
stdlib stdout step steps still stop store story str stream street strict string strings strip
strong struct student study style su sub subject submit substring success such suite sum summary
summer sun sunday super support sur sure sus swap switch sync sys system sábado tab table tag tage
take taken takes taking talk también target task team tell temp template ten tener termin test
tests text than thank thanks that the their them then there these they thing things think third
this those though thought thousand thread three through throw thursday till time timeout timestamp
tip title tmp to toda today todo todos together toggle token told tomorrow tonight too took top
torch total tous tout toute toward town trace train transform travel tree tried trim trip trouble
true truncate try trying très tu tuesday tuple turn twice two txt type typedef typeof types
typescript tú uhr uint um un una unas und undefined under understand understanding une union unique
unit unittest unknown unos uns unser unsere unsigned unter until up update updated upon upper url
urllib us use used user username users using usr usually utf util utils uuid val valid value values
var varchar variable various vec vector vendredi verbose version vertrag very veuillez via viel
viele vielen viernes view virtual visit voice void von vos votre vous wait waiting walk wall want
wanted war warm warn warning was watch water way ways we weather web wednesday week weekend weeks
weil welche welcher welcome well wenn went wer werden were west what whatever when where whether
which while white who whole whose why width wie wieder wife will window winter wir wird wish with
within without wo woche woman women wonderful word words work workdir worked worker working works
world worth would wrap write writer wrong wrote wäre würde xml y yaml year years yes yesterday yet
yield yo you young your yours yourself zeit zero zip zu zum zur zwischen él être über
"""

# Licences, beginnings of programs and pages, and set phrases of mails, contracts and answers.
COMMON_TEXT = """
MIT License Copyright (c) Permission is hereby granted, free of charge, to any person obtaining a
copy of this software and associated documentation files (the "Software"), to deal in the Software
without restriction, including without limitation the rights to use, copy, modify, merge, publish,
distribute, sublicense, and/or sell copies of the Software, and to permit persons to whom the
Software is furnished to do so, subject to the following conditions: The above copyright notice and
this permission notice shall be included in all copies or substantial portions of the Software. THE
SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR IMPLIED, INCLUDING BUT NOT
LIMITED TO THE WARRANTIES OF MERCHANTABILITY, FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT.
IN NO EVENT SHALL THE AUTHORS OR COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM, DAMAGES OR OTHER
LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR OTHERWISE, ARISING FROM, OUT OF OR IN
CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE SOFTWARE. Copyright Licensed under
the Apache License, Version 2.0 (the "License"); you may not use this file except in compliance
with the License. You may obtain a copy of the License at
http://www.apache.org/licenses/LICENSE-2.0 Unless required by applicable law or agreed to in
writing, software distributed under the License is distributed on an "AS IS" BASIS, WITHOUT
WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the License for the specific
language governing permissions and limitations under the License. SPDX-License-Identifier: MIT
Apache-2.0 This program is free software: you can redistribute it and/or modify it under the terms
of the GNU General Public License as published by the Free Software Foundation, either version 3 of
the License, or (at your option) any later version. This program is distributed in the hope that it
will be useful, but WITHOUT ANY WARRANTY; without even the implied warranty of MERCHANTABILITY or
FITNESS FOR A PARTICULAR PURPOSE. See the GNU General Public License for more details. You should
have received a copy of the GNU General Public License along with this program. If not, see
https://www.gnu.org/licenses/ Redistribution and use in source and binary forms, with or without
modification, are permitted provided that the following conditions are met: Redistributions of
source code must retain the above copyright notice, this list of conditions and the following
disclaimer. All rights reserved. #!/usr/bin/env python3 # -*- coding: utf-8 -*- from __future__
import annotations import argparse import asyncio import collections import csv import json import
logging import os import random import re import sys import time import typing from collections
import defaultdict from dataclasses import dataclass from datetime import datetime, timedelta from
pathlib import Path from typing import Any, Dict, List, Optional, Tuple, Union import numpy as np
import pandas as pd import matplotlib.pyplot as plt import seaborn as sns import torch import
torch.nn as nn import tensorflow as tf from sklearn.model_selection import train_test_split from
sklearn.metrics import accuracy_score from sklearn.linear_model import LinearRegression,
LogisticRegression from sklearn.ensemble import RandomForestClassifier X_train, X_test, y_train,
y_test = train_test_split(X, y, test_size=0.2, random_state=42) model.fit(X_train, y_train) from
flask import Flask, jsonify, request, render_template app = Flask(__name__) app.run(debug=True)
from fastapi import FastAPI, HTTPException from pydantic import BaseModel, Field app = FastAPI()
from django.conf import settings from django.db import models from django.urls import path
models.CharField(max_length=200) models.ForeignKey(settings.AUTH_USER_MODEL,
on_delete=models.CASCADE) models.DateTimeField(auto_now_add=True) logger =
logging.getLogger(__name__) logging.basicConfig(level=logging.INFO) if __name__ == "__main__":
main() sys.exit(main()) unittest.main() response = requests.get(url, timeout=10)
response.raise_for_status() data = response.json() except requests.exceptions.RequestException as
e: import React, { useCallback, useEffect, useRef, useState } from "react"; export default function
App const [loading, setLoading] = useState(false); const express = require("express"); "use
strict"; const app = express(); module.exports = app.listen(port, () => console.log(`Server
listening`)); document.addEventListener("DOMContentLoaded", function () { fetch().then((response)
=> response.json()).then((data) => .catch((error) => console.error(error)); <!DOCTYPE html> <html
lang="en"> <head> <meta charset="UTF-8"> <meta name="viewport" content="width=device-width,
initial-scale=1.0"> <title>Document</title> <link rel="stylesheet" href="style.css"> </head> <body>
<script src="script.js"></script> </body> </html> <?xml version="1.0" encoding="UTF-8"?> <?php echo
using System; using System.Collections.Generic; namespace class Program { static void Main(string[]
args) { Console.WriteLine( package main import ( "fmt" "log" "net/http" "os" ) func main() { if err
!= nil { log.Fatal(err) import java.util.ArrayList; import java.util.List; import
java.util.Scanner; public class Main { public static void main(String[] args) { System.out.println(
Scanner scanner = new Scanner(System.in); #include <iostream> #include <string> #include <vector>
#include <stdio.h> #include <stdlib.h> #include <string.h> using namespace std; int main(int argc,
char *argv[]) fn main() { println!( use std::collections::HashMap; #[derive(Debug, Clone,
PartialEq)] #!/usr/bin/env bash set -euo pipefail SCRIPT_DIR="$(cd "$(dirname "${BASH_SOURCE[0]}")"
&& pwd)" FROM python:3.12-slim WORKDIR /app COPY requirements.txt . RUN pip install --no-cache-dir
-r requirements.txt COPY . . EXPOSE 8000 CMD ["python", "app.py"] FROM node:20-alpine npm install
CREATE TABLE IF NOT EXISTS id SERIAL PRIMARY KEY, id INT NOT NULL AUTO_INCREMENT name VARCHAR(255)
NOT NULL, email VARCHAR(255) UNIQUE NOT NULL, created_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP
updated_at TIMESTAMP ENGINE=InnoDB DEFAULT CHARSET=utf8mb4; "$schema":
"https://json-schema.org/draft/2020-12/schema", "type": "object", "properties": {
"additionalProperties": false, "type": "string", "required": [ I hope this email finds you well. I
hope this message finds you well. I hope you are doing well. I am writing to let you know that I am
writing to you to inform you that I am writing to inquire about the I am writing to apply for the
position of I am writing to express my interest in Thank you for your email. Thank you for your
message. Thank you for reaching out to us. Thank you for contacting us. Thank you for contacting
our customer support team. Thank you for your patience and understanding. Thank you for your
understanding. Thank you for your prompt response. Thank you for your time and consideration. Thank
you for your interest in the Thank you very much for your order. Thank you in advance. Thank you
for taking the time to We are sorry to hear that We apologize for any inconvenience this may have
caused. We apologise for the inconvenience. We are sorry for the inconvenience. Please do not
hesitate to contact me if you have any questions. Please do not hesitate to contact us if you need
any further assistance. If you have any questions or concerns, please feel free to contact us.
Please let me know if you have any further questions. Please let us know if there is anything else
we can help you with. Is there anything else I can help you with? Please find attached the Please
note that the Please let us know by I look forward to hearing from you soon. I look forward to your
reply. I am looking forward to We look forward to seeing you. I would like to discuss We would like
to invite you to Would you be available for a meeting This is a friendly reminder that If you have
already made the payment, please disregard this message. I am out of the office with limited access
to email. In urgent cases, please contact After careful consideration, we have decided to move
forward with another candidate. We wish you all the best for your future. Best regards, [Your Name]
[Your Position] [Company Name] Kind regards, Warm regards, Yours sincerely, Yours faithfully, Dear
Sir or Madam, Dear Hiring Manager, Dear colleagues, Dear Team, Hi everyone, Hello everyone, To whom
it may concern, The Support Team Customer Support Team The HR Team Enjoy your meal! This email and
any attachments are confidential and intended solely for the use of the individual or entity to
whom they are addressed. If you have received this email in error, please notify the sender
immediately and delete it. Sent from my iPhone On wrote: It was a pleasure speaking with you today.
It was a pleasure meeting you. It was great to meet you. As discussed, I have attached an overview
of our services and pricing. As discussed during our call, I am following up on I wanted to follow
up on my previous email regarding the I just wanted to check in on the status of Please feel free
to reach out if you have any further questions. Please let me know if you need any additional
information. Please let me know if you need any further information. Thank you again for the
opportunity to interview for the position. Thank you for considering my request. Thank you for
considering my application. Thank you for your continued support. Thank you for bringing this to
our attention. I would like to request time off from I will make sure that all of my tasks are
completed or handed over before I leave. I will ensure that all my work is up to date before I
leave. I am not feeling well and will not be able to come to work today. I am writing to formally
resign from my position as at effective two weeks from today. Please accept this letter as formal
notice of my resignation. I am grateful for the opportunities I have been given and the experience
I have gained during my time at the company. I will do everything I can to ensure a smooth
transition. I am writing to request a refund for I am writing to complain about I am writing to
confirm our meeting I am writing to express my dissatisfaction with I am excited to apply for the
position of With my background in I am confident that I would be a valuable addition to your team.
I would welcome the opportunity to discuss my qualifications in more detail. Please find my resume
attached for your review. I apologize for any inconvenience this may cause. I apologize for the
late reply. Sorry for the delay in getting back to you. Your order has been shipped and is on its
way. You will receive a confirmation email shortly. We appreciate your business and look forward to
serving you again. We value your feedback. We take your concerns seriously. We are committed to
providing the best possible service. Could you please send me the Could you please let me know
Please confirm your attendance by I hope you had a great weekend. I hope you understand. Looking
forward to your response. Have a great day! Have a nice weekend! Happy birthday! Congratulations on
your promotion! I wanted to thank you for your help. Welcome to the team! We are excited to have
you on board. If you wish to unsubscribe, click here. Please let me know if this works for you. Let
me know what time works best for you. at your earliest convenience. The meeting will take place on
Please bring Sehr geehrte Damen und Herren, vielen Dank für Ihre Nachricht. vielen Dank für Ihre
Anfrage. vielen Dank für Ihr Angebot. vielen Dank für Ihre Geduld und Ihr Verständnis. vielen Dank
für Ihre Bestellung. vielen Dank im Voraus für Ihre Bemühungen. Wir entschuldigen uns für die
Unannehmlichkeiten. Ich bitte um Ihr Verständnis. Hiermit kündige ich meinen Vertrag mit der Nummer
fristgerecht zum nächstmöglichen Zeitpunkt. Bitte senden Sie mir eine schriftliche Bestätigung.
Bitte bestätigen Sie mir den Eingang dieser Kündigung schriftlich. Bei weiteren Fragen stehen wir
Ihnen gerne zur Verfügung. Für Rückfragen stehe ich Ihnen jederzeit gerne zur Verfügung. Ich freue
mich auf Ihre Rückmeldung. Ich freue mich auf Ihre Antwort. Wir freuen uns auf Ihren Besuch. Mit
freundlichen Grüßen [Ihr Name] Mit besten Grüßen Viele Grüße Herzliche Grüße Guten Tag, Liebe
Kolleginnen und Kollegen, Ihr Team von leider bin ich heute erkrankt und kann nicht zur Arbeit
kommen. Leider muss ich mich heute krankmelden. Ich werde mich umgehend zum Arzt begeben und Ihnen
die Krankschreibung so schnell wie möglich zukommen lassen. Die Arbeitsunfähigkeitsbescheinigung
reiche ich nach. anbei sende ich Ihnen im Anhang finden Sie wie telefonisch besprochen wie
besprochen sende ich Ihnen hiermit bewerbe ich mich um die Stelle als hiermit bewerbe ich mich auf
die ausgeschriebene Stelle Über eine Einladung zu einem persönlichen Gespräch freue ich mich sehr.
Leider müssen wir Ihnen mitteilen, dass wir Ihnen leider absagen müssen. wir haben uns für einen
anderen Bewerber entschieden. Für Ihren weiteren Weg wünschen wir Ihnen alles Gute. hiermit
widerrufe ich den Vertrag hiermit kündige ich das Mietverhältnis hiermit kündige ich mein
Arbeitsverhältnis fristgerecht zum Bitte bestätigen Sie mir den Erhalt dieses Schreibens. Könnten
Sie mir bitte mitteilen, ob Ich wollte nachfragen, ob Vielen Dank für die schnelle Rückmeldung.
Vielen Dank für das angenehme Gespräch. Bitte überweisen Sie den Betrag bis zum auf das unten
angegebene Konto. Sollten Sie den Betrag bereits überwiesen haben, betrachten Sie dieses Schreiben
bitte als gegenstandslos. ich bin derzeit nicht im Büro. In dringenden Fällen wenden Sie sich bitte
an Ich bin ab dem wieder erreichbar. Ihre E-Mail wird nicht weitergeleitet. Bitte geben Sie uns bis
Bescheid, ob Sie teilnehmen können. Wir laden Sie herzlich ein Ihre Bestellung wurde versandt.
Schönes Wochenende! Ich wünsche Ihnen einen schönen Tag. Madame, Monsieur, Je vous prie d'agréer,
Madame, Monsieur, l'expression de mes salutations distinguées. Je vous remercie de votre message.
Je reste à votre disposition pour tout renseignement complémentaire. Dans l'attente de votre
réponse, Bien cordialement, Estimado señor: Muchas gracias por su mensaje. Quedo a su disposición
para cualquier consulta. Un cordial saludo, Reciba un cordial saludo This Agreement shall be
governed by and construed in accordance with the laws of the State of, without regard to its
conflict of law principles. without regard to its conflict of laws provisions. This Agreement
constitutes the entire agreement between the parties and supersedes all prior agreements and
understandings, whether written or oral, with respect to the subject matter hereof. If any
provision of this Agreement is held to be invalid or unenforceable, the remaining provisions shall
remain in full force and effect. shall continue in full force and effect. This Agreement is entered
into as of the date set forth below by and between the parties (collectively, the "Parties"). IN
WITNESS WHEREOF, the parties have executed this Agreement as of the date first above written.
Neither party shall be liable for any failure or delay in performance due to causes beyond its
reasonable control, including acts of God, war, strikes or natural disasters. shall hold the
Confidential Information in strict confidence and shall not disclose it to any third party without
the prior written consent of the Disclosing Party. The Receiving Party shall This is not legal
advice. This is general information and not legal advice; please consult a lawyer. This is not
financial advice. Past performance is not indicative of future results. forward-looking statements
Preheat the oven to 180 °C. 350°F. Season with salt and pepper to taste. Season with salt and
pepper. Bake for minutes until golden brown. Let it cool completely. Bring to a boil and simmer for
over medium heat, stirring occasionally. 1 tbsp olive oil 1 tsp salt 2 cloves of garlic 200 g flour
Certainly! Here is the corrected version of the text: Sure! Here is a Of course! Here are some Here
is an example of how you can This function takes a list of and returns the As an AI language model,
I cannot I'm sorry, but I can't help with that. Let me know if you would like me to You can use the
following code to Hope this helps! Final answer: The answer is The sentiment of this review is
Lorem ipsum dolor sit amet, consectetur adipiscing elit, sed do eiusmod tempor incididunt ut labore
et dolore magna aliqua. Ut enim ad minim veniam, quis nostrud exercitation ullamco laboris nisi ut
aliquip ex ea commodo consequat. The quick brown fox jumps over the lazy dog. To be, or not to be,
that is the question: Whether 'tis nobler in the mind to suffer the slings and arrows of outrageous
fortune. We hold these truths to be self-evident, that all men are created equal. Four score and
seven years ago. All human beings are born free and equal in dignity and rights. It was the best of
times, it was the worst of times. It is a truth universally acknowledged, that a single man in
possession of a good fortune, must be in want of a wife.
I have not received any update so far. I kindly request that you look into this matter as soon as
possible and keep me informed. Congratulations on your well-deserved promotion! Your hard work and
dedication have truly paid off. Wishing you all the best in your new role.
"""
